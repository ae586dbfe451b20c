"""The tower keeps every token, normed and of length 1, whatever the image size."""

import pytest
import torch
import torch.nn.functional as F

from kosmos.errors import DataError
from kosmos.model.config import VisionConfig
from kosmos.model.vision import VisionTower


def _config(**changes):
    shape = {
        "image_size": 8, "patch_size": 4, "width": 12, "num_layers": 2, "num_heads": 2,
        "ffn_width": 16,
    }  # fmt: skip
    return VisionConfig(**(shape | changes))


@pytest.mark.parametrize(
    "changes",
    [{}, {"image_size": 11}, {"num_layers": 1, "num_heads": 1}, {"patch_size": 8}],
)
def test_every_patch_and_the_class_token_come_out_with_length_one(changes):
    config = _config(**changes)
    tower = VisionTower(config).eval()
    size = config.image_size
    features = tower(torch.randn(3, 3, size, size))
    assert features.shape == (3, config.num_patches + 1, 12)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(3, config.num_patches + 1))


def test_the_last_norm_falls_on_every_token():
    tower = VisionTower(_config()).double().eval()
    last = []
    tower.layers[-1].register_forward_hook(lambda *args: last.append(args[2]))
    features = tower(torch.randn(1, 3, 8, 8, dtype=torch.float64))
    normed = F.layer_norm(last[0], (12,), tower.post_norm.weight, tower.post_norm.bias, 1e-5)
    expected = normed / normed.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(features, expected, atol=1e-12, rtol=0)


def test_pixels_beyond_the_last_whole_patch_are_not_seen():
    tower = VisionTower(_config(image_size=11)).eval()
    pixels = torch.randn(1, 3, 11, 11)
    changed = pixels.clone()
    changed[:, :, 8:] = 9.0
    changed[:, :, :, 8:] = -9.0
    torch.testing.assert_close(tower(pixels), tower(changed))


def test_images_do_not_influence_each_other():
    tower = VisionTower(_config()).double().eval()
    pixels = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    together = tower(pixels)
    for one, alone in zip(together, pixels, strict=True):
        torch.testing.assert_close(one, tower(alone[None])[0], atol=1e-12, rtol=0)


def test_images_of_another_size_are_refused():
    with pytest.raises(DataError, match=r"shape \(3, 8, 8\), found \(3, 9, 8\)"):
        VisionTower(_config())(torch.zeros(1, 3, 9, 8))
