"""Each distinct picture is encoded once, whatever it is called; the cache changes no reply."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.document.types import Document, Image, Text
from kosmos.errors import ConfigError, ImageError
from kosmos.generate.generator import Generator
from kosmos.generate.image_cache import ImageCache
from kosmos.image.codec import encode_png
from kosmos.image.transform import ImageTransform
from kosmos.model.kosmos import Kosmos
from kosmos.weights.loaded import LoadedModel
from tests.unit.generate.random_models import make_generator, make_model, small_tokenizer

SOFT_BYTES = 3 * 32 * 4
"""Three soft tokens 32 wide in float32."""


def fresh(generator: Generator, **options: int) -> Generator:
    """The same model with a cache of its own."""
    loaded = LoadedModel(
        model=generator.model,
        tokenizer=generator.tokenizer,
        image=generator.image,
        layout=generator.layout,
    )
    return Generator(loaded, **options)


def noise(seed: int, size: tuple[int, int] = (20, 12)) -> PIL.Image.Image:
    rng = np.random.default_rng(seed)
    return PIL.Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def take_one(held: ImageCache, source: object) -> torch.Tensor:
    with torch.inference_mode():
        (soft,) = held.take([[Image(source)]], names=["a"])
    return soft


@torch.inference_mode()
def test_paths_and_bytes_of_one_content_are_one_picture(generator, pictures, tmp_path):
    one, other = tmp_path / "a.png", tmp_path / "b.png"
    for path in (one, other):
        path.write_bytes(encode_png(pictures[0]))
    same = [Image(str(one)), Image(one), Image(other), Image(one.read_bytes())]
    held = ImageCache(generator.model, ImageTransform(generator.image))
    first, nothing = held.take([same, ()], names=["a", "b"])
    assert (held.num_encoded, held.num_found) == (1, 3)
    assert nothing is None
    assert all(torch.equal(first[0], soft) for soft in first)
    (again,) = held.take([[Image(pictures[1]), *same]], names=["c"])
    assert (held.num_encoded, held.num_found) == (2, 7)
    assert torch.equal(again[1:], first)
    assert not torch.equal(again[0], again[1])


def test_a_picture_in_memory_is_what_it_shows(generator):
    held = ImageCache(generator.model, ImageTransform(generator.image))
    picture = noise(0)
    shown = take_one(held, picture)
    for source in (picture.copy(), np.asarray(picture), picture.convert("RGBA")):
        assert torch.equal(take_one(held, source), shown)
    assert held.num_encoded == 1
    # the same bytes of pixels in another shape, and the same pixels still to be turned
    take_one(held, np.asarray(picture).reshape(20, 12, 3))
    turned = picture.copy()
    turned.getexif()[0x0112] = 3
    take_one(held, turned)
    assert held.num_encoded == 3


def test_palette_and_transparency_tell_pictures_apart(generator):
    held = ImageCache(generator.model, ImageTransform(generator.image))
    indices = PIL.Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    first, second = indices.convert("P"), indices.convert("P")
    first.putpalette(list(range(256)) * 3)
    second.putpalette(list(range(255, -1, -1)) * 3)
    assert first.tobytes() == second.tobytes()
    assert not torch.equal(take_one(held, first), take_one(held, second))
    clear, solid = noise(1).convert("RGBA"), noise(1).convert("RGBA")
    clear.putalpha(0)
    assert not torch.equal(take_one(held, clear), take_one(held, solid))
    assert held.num_encoded == 4


def test_a_picture_opened_but_not_read_is_the_one_in_its_file(generator, pictures):
    held = ImageCache(generator.model, ImageTransform(generator.image))
    lazy = PIL.Image.open(io.BytesIO(encode_png(pictures[0])))
    assert torch.equal(take_one(held, lazy), take_one(held, pictures[0]))
    assert held.num_encoded == 1


def test_a_file_that_changed_is_another_picture(generator, tmp_path):
    engine = fresh(generator)
    path = tmp_path / "a.png"
    doc = Document([Image(path), Text("An image of")])
    replies = []
    for seed in (0, 1, 0):
        path.write_bytes(encode_png(noise(seed)))
        replies.append(engine.generate(doc, max_new_tokens=6))
    assert engine.image_cache.num_encoded == 2
    assert replies[0] == replies[2]
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"a\.png"):
        engine.generate(doc)


def test_soft_tokens_are_those_of_the_model(generator, pictures):
    transform = ImageTransform(generator.image)
    soft = take_one(ImageCache(generator.model, transform), pictures[0])
    with torch.inference_mode():
        pixels = torch.from_numpy(transform.pixels(pictures[0]))[None]
        assert torch.allclose(soft, generator.model.encode_images(pixels), atol=1e-6)


@given(asked=st.lists(st.integers(0, 5), max_size=25), room=st.integers(0, 4))
@settings(max_examples=30)
def test_bytes_are_bounded_and_what_was_used_last_is_kept(asked, room):
    engine = make_generator(
        small_tokenizer(), make_model(small_tokenizer().vocabulary.size, seed=3)
    )
    held = ImageCache(engine.model, ImageTransform(engine.image), max_bytes=room * SOFT_BYTES)
    kept: list[int] = []  # least recently used first
    num_encoded = 0
    for seed in asked:
        take_one(held, noise(seed))
        num_encoded += seed not in kept
        kept = [*(other for other in kept if other != seed), seed]
        kept = kept[max(0, len(kept) - room) :]
        assert held.num_bytes == len(kept) * SOFT_BYTES <= held.max_bytes
        assert held.num_encoded == num_encoded
    assert held.num_found == len(asked) - num_encoded


@torch.inference_mode()
def test_kept_tokens_do_not_hold_the_memory_of_their_batch(generator):
    held = ImageCache(generator.model, ImageTransform(generator.image))
    held.take([[Image(noise(seed)) for seed in range(5)]], names=["a"])
    assert held.num_bytes == 5 * SOFT_BYTES
    held.clear()
    assert held.num_bytes == 0
    take_one(held, noise(0))
    assert held.num_encoded == 6


def test_pictures_of_a_batch_stay_until_it_is_read_however_little_room_there_is(generator):
    docs = [
        Document([Image(noise(seed)), Image(noise(9)), Text("a")], id=str(seed))
        for seed in range(4)
    ]
    expected = [reply.token_ids for reply in generator.generate(docs, max_new_tokens=4)]
    engine = fresh(generator, image_cache_bytes=SOFT_BYTES)
    assert [reply.token_ids for reply in engine.generate(docs, max_new_tokens=4)] == expected
    assert engine.image_cache.num_encoded == 5
    assert engine.image_cache.num_bytes == SOFT_BYTES


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"temperature": 1.0, "seed": 2}])
def test_replies_with_the_cache_are_those_without(generator, options, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(noise(7)))
    docs = [
        Document([Image(path), Text(f"Question: {words}? Answer:")], id=words)
        for words in ("red", "a dog", "left of it", "What is it")
    ]
    docs.append(Document([Image(noise(8)), Text("a star. "), Image(path), Text("a dog")], id="x"))
    cached, uncached = fresh(generator), fresh(generator, image_cache_bytes=0)
    for batch_size in (1, 2, 5):
        with_cache = cached.generate(docs, max_new_tokens=8, batch_size=batch_size, **options)
        without = uncached.generate(docs, max_new_tokens=8, batch_size=batch_size, **options)
        assert [r.token_ids for r in with_cache] == [r.token_ids for r in without]
    # pictures 7 and 8, once and for all; without the cache once for each batch they are in
    assert cached.image_cache.num_encoded == 2
    assert uncached.image_cache.num_encoded == (5 + 1) + (3 + 1) + 2


def test_raven_encodes_14_pictures_instead_of_54(tokenizer):
    engine = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=3))
    puzzle = [noise(seed) for seed in range(8)]
    choices = [noise(100 + seed) for seed in range(6)]
    images = [Image(picture) for picture in puzzle]
    for choice in choices:
        doc = Document([*images, Text("red"), Image(choice), Text("it?")])
        engine.score(doc, ["yes"])
    assert engine.image_cache.num_encoded == 8 + 6
    assert engine.image_cache.num_encoded + engine.image_cache.num_found == 6 * 9


def test_questions_about_one_photo_encode_it_once(generator):
    engine = fresh(generator)
    photo = noise(5)
    for words in ("a dog", "red", "a star"):
        engine.generate(Document([Image(photo), Text(words)]), max_new_tokens=2)
        engine.score(Document([Image(photo)]), [words])
    engine.logits(Document([Image(photo)]))
    assert (engine.image_cache.num_encoded, engine.image_cache.num_found) == (1, 6)


def test_another_dtype_has_soft_tokens_of_its_own(tokenizer):
    engine = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=3))
    doc = Document([Image(noise(0)), Text("a")])
    engine.generate(doc, max_new_tokens=2)
    engine.model.bfloat16()
    engine.generate(doc, max_new_tokens=2)
    assert engine.image_cache.num_encoded == 2


def test_a_picture_that_cannot_be_read_names_its_document(generator, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"'seven'.*bad\.png"):
        generator.generate(Document([Image(bad), Text("a")], id="seven"))


@pytest.mark.parametrize("name", ["missing.png", "folder.png", "nul\0.png"])
def test_a_file_that_cannot_be_opened_is_named(generator, tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    held = ImageCache(generator.model, ImageTransform(generator.image))
    with pytest.raises(ImageError, match=r"a, image 0: .*expected a picture"):
        take_one(held, Path(tmp_path / name))


def test_a_language_model_refuses_images(tokenizer, pictures):
    config = make_model(tokenizer.vocabulary.size, seed=0).config
    blind = make_generator(tokenizer, Kosmos(type(config)(decoder=config.decoder)))
    with pytest.raises(ConfigError, match="expected a vision tower for 1 images"):
        blind.generate(Document([Image(pictures[0]), Text("a")]))
    assert blind.generate("a dog", max_new_tokens=2).token_ids


def test_a_cache_of_negative_size_is_refused(generator):
    with pytest.raises(ConfigError, match="image_cache_bytes: expected at least 0, found -1"):
        fresh(generator, image_cache_bytes=-1)
