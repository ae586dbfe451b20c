"""Every format has settings of its own, and what it does not use is refused."""

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner

from kosmos.cli.data import command
from kosmos.corpus.formats.config import ImportConfig, PagesConfig
from kosmos.corpus.formats.table import FORMATS, make_config
from kosmos.corpus.formats.tally import Tally
from kosmos.errors import ConfigError

TEXT = ("text", "wikitext", "jsonl", "parquet", "instructions")


def fields(format_name: str) -> set[str]:
    return {field.name for field in dataclasses.fields(FORMATS[format_name].config)}


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_setting_of_another_format_is_refused_with_the_formats_that_use_it(
    format_name: str,
) -> None:
    every = {name for other in FORMATS for name in fields(other)}
    for name in sorted(every - fields(format_name)):
        users = ", ".join(other for other in FORMATS if name in fields(other))
        with pytest.raises(ConfigError) as caught:
            make_config(format_name, [f"{name}=1"])
        assert caught.value.message == (
            f"{name}: expected a setting of {format_name}, found one of {users}"
        )
        assert caught.value.hint == f"{format_name} has {', '.join(sorted(fields(format_name)))}"


def test_formats_without_pictures_have_no_settings_of_pictures() -> None:
    for format_name in FORMATS:
        assert ("exclude_images" in fields(format_name)) == (format_name not in TEXT)
        assert {"seed", "damaged_files"} <= fields(format_name)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "min_score=0.9"], "found one of grit, grit-instructions"),
        (["--images", "photos"], "images: expected a setting of text, found one of coco, "),
        (["--set", "image.geometry=center-crop"], "found one of grit, grit-instructions"),
    ],
)
def test_the_command_refuses_what_the_format_does_not_use(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    where = [str(tmp_path / "a.txt"), str(tmp_path / "out")]
    result = CliRunner().invoke(command, ["import", "text", *where, *arguments])
    assert isinstance(result.exception, ConfigError)
    assert told in result.exception.message
    assert not (tmp_path / "out").exists()


def test_a_name_that_no_format_has_fails_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        make_config("grit", ["min_scor=0.9"])
    assert caught.value.hint == "did you mean 'min_score'?"
    with pytest.raises(ConfigError, match="expected one of text, wikitext"):
        make_config("docx")


def test_a_reader_takes_the_choices_of_its_own_format_alone(tmp_path: Path) -> None:
    for config in (PagesConfig(), ImportConfig()):
        with pytest.raises(ConfigError, match="expected a GritCaptionsConfig, found a "):
            FORMATS["grit"].read(tmp_path, config, Tally())


@pytest.mark.parametrize(
    ("format_name", "setting", "told"),
    [
        ("grit", "min_score=1.5", r"expected \[0, 1\]"),
        ("grit", "grounded_share=NaN", "expected a finite number, found nan"),
        ("mmc4", "single_image_share=-0.1", r"expected \[0, 1\]"),
        ("mmc4", "max_images=0", "expected at least 1"),
        ("pairs", "min_caption_side_px=-1", "expected at least 0"),
        ("llava", "max_pixels=0", "expected at least 1"),
        ("grit", "image.max_pixels=5", "expected the limit of an import in max_pixels"),
        ("coco", "assign_images=true", "expected a folder of pictures"),
    ],
)
def test_impossible_values_are_refused(format_name: str, setting: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_config(format_name, [setting])
