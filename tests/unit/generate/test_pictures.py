"""Each distinct picture is encoded once per call."""

import pytest
import torch

from kosmos.document.types import Document, Image, Text
from kosmos.errors import ConfigError, ImageError
from kosmos.generate.pictures import Pictures
from kosmos.image.codec import encode_png
from kosmos.image.transform import ImageTransform
from kosmos.model.kosmos import Kosmos
from tests.unit.generate.random_models import make_generator, make_model


@torch.inference_mode()
def test_the_same_picture_is_encoded_once_and_forgotten_after_its_last_use(
    generator, pictures, tmp_path
):
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(pictures[0]))
    data = encode_png(pictures[1])
    same = [Image(str(path)), Image(path), Image(data), Image(bytes(bytearray(data)))]
    images = [*same, Image(pictures[2])]
    held = Pictures(generator.model, ImageTransform(generator.image), [*images, *images])
    first = held.take([images, ()], names=["a", "b"])
    assert held.num_encoded == 3
    (again,) = held.take([images], names=["c"])
    assert held.num_encoded == 3
    assert first[1] is None
    assert torch.equal(first[0], again)
    assert torch.equal(again[0], again[1])
    assert torch.equal(again[2], again[3])
    assert not torch.equal(again[0], again[2])
    held.take([images[:1]], names=["d"])
    assert held.num_encoded == 4


def test_soft_tokens_are_those_of_the_model(generator, pictures):
    transform = ImageTransform(generator.image)
    held = Pictures(generator.model, transform, [Image(pictures[0])])
    with torch.inference_mode():
        (soft,) = held.take([[Image(pictures[0])]], names=["a"])
        pixels = torch.from_numpy(transform.pixels(pictures[0]))[None]
        assert torch.allclose(soft, generator.model.encode_images(pixels), atol=1e-6)


def test_a_picture_that_cannot_be_read_names_its_document(generator, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    with pytest.raises(ImageError, match="bad"):
        generator.generate(Document([Image(bad), Text("a")], id="seven"))


def test_a_language_model_refuses_images(generator, tokenizer, pictures):
    config = make_model(tokenizer.vocabulary.size, seed=0).config
    blind = make_generator(tokenizer, Kosmos(type(config)(decoder=config.decoder)))
    with pytest.raises(ConfigError, match="expected a vision tower for 1 images"):
        blind.generate(Document([Image(pictures[0]), Text("a")]))
    assert blind.generate("a dog", max_new_tokens=2).token_ids
