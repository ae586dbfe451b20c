import pytest

from kosmos import config as configs
from kosmos.errors import ConfigError
from kosmos.microcosm.config import MicrocosmConfig, Wording


def test_config_survives_a_round_trip_through_json():
    config = MicrocosmConfig(num_scenes=7, wording=Wording(captions=("Behold {}!",)))
    assert configs.from_json(MicrocosmConfig, configs.to_json(config)) == config


def test_wording_and_proportions_are_set_by_dotted_names():
    config = configs.override(MicrocosmConfig(), 'wording.captions=["See {}."]')
    config = configs.override(config, "image_size=96")
    assert config.wording.captions == ("See {}.",)
    assert config.image_size == 96


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_scenes": 0}, "num_scenes"),
        ({"image_size": 16}, "image_size"),
        ({"max_objects": 9}, "max_objects"),
        ({"max_page_images": 6}, "max_page_images"),
        ({"small": (0.3, 0.2)}, "small"),
        ({"medium": (0.2, 0.3)}, "medium"),
        ({"share_vqa": 0.5}, "share_"),
        ({"kind_share": 1.5}, "kind_share"),
        ({"seen_per_color": 6}, "seen_per_color"),
        ({"seen_per_color": 4}, "kind_names"),
        ({"wording.kind_names": ("dax", "dax")}, "kind_names"),
        ({"wording.ask_kind": ()}, "ask_kind"),
    ],
)
def test_impossible_settings_are_refused_by_name(change, named):
    with pytest.raises(ConfigError, match=named):
        configs.replace(MicrocosmConfig(), change)
