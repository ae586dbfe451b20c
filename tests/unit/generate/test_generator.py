"""Generator: documents in, replies out, whatever batch they are in."""

import numpy as np
import pytest
import torch

import kosmos
from kosmos.document.types import Document, Image, Text
from kosmos.errors import CheckpointError, ConfigError, DataError
from kosmos.generate.config import RELEASED, RELEASED_BEAMS, Decoding
from kosmos.generate.generator import Generator
from kosmos.weights.folder import save_model
from tests.unit.generate.random_models import make_generator, make_model


@pytest.fixture
def docs(pictures) -> list[Document]:
    first, second, third = pictures
    return [
        Document([Image(first), Text("<grounding>An image of")], id="a"),
        Document([Text("a dog left of")], id="b"),
        Document([Image(first), Text("a star. "), Image(second), Text("a dog")], id="c"),
        Document([Image(third), Image(third), Text("Question: What is it? Answer:")], id="d"),
        Document([], id="e"),
    ]


SETTINGS = [
    {},
    {"temperature": 1.0, "seed": 3},
    {"temperature": 0.7, "top_p": 0.9, "top_k": 20},
    {"num_beams": 4},
    {"num_beams": 3, "no_repeat_ngram_size": 2, "early_stopping": True},
    {"num_beams": 2, "score_prompt": True},
]


@pytest.mark.parametrize("options", SETTINGS)
def test_a_batch_gives_each_document_the_reply_it_gets_alone(generator, docs, options):
    alone = [generator.generate(doc, max_new_tokens=12, **options) for doc in docs]
    for batch_size in (2, 16):
        together = generator.generate(docs, max_new_tokens=12, batch_size=batch_size, **options)
        assert [reply.token_ids for reply in together] == [reply.token_ids for reply in alone]
        for one, other in zip(together, alone, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
            assert (one.text, one.finish) == (other.text, other.finish)
    assert len({reply.token_ids for reply in alone}) == len(docs)


@pytest.mark.parametrize("positions", ["sinusoidal", "xpos"])
def test_greedy_replies_are_the_argmax_of_the_uncached_model(tokenizer, docs, positions):
    model = make_model(tokenizer.vocabulary.size, seed=2, positions=positions)
    generator = make_generator(tokenizer, model)
    for doc, reply in zip(docs, generator.generate(docs, max_new_tokens=8), strict=True):
        encoded = generator.encode(doc)
        ids = encoded.token_ids.tolist()
        for token_id in reply.token_ids:
            logits = next_logits(generator, doc, ids).tolist()
            del logits[1]
            assert token_id == logits.index(max(logits)) + (logits.index(max(logits)) >= 1)
            ids.append(token_id)


def next_logits(generator: Generator, doc: Document, ids: list[int]) -> torch.Tensor:
    """Read a prompt and a part of its reply without any cache."""
    from kosmos.document.pixels import load_pixels
    from kosmos.image.transform import ImageTransform

    encoded = generator.encode(doc)
    slots = torch.zeros((1, len(ids)), dtype=torch.bool)
    slots[0, : len(encoded)] = torch.from_numpy(encoded.image_slots)
    with torch.inference_mode():
        soft = None
        if encoded.images:
            pixels = load_pixels(encoded.images, ImageTransform(generator.image))
            soft = generator.model.encode_images(torch.from_numpy(pixels))
        hidden = generator.model(torch.tensor([ids]), image_slots=slots, image_embeddings=soft)
        return generator.model.logits(hidden[0, -1]).clone()


def test_sampling_follows_the_seed_and_the_id_of_the_document(generator, docs):
    def sample(doc: Document, seed: int) -> tuple[int, ...]:
        return generator.generate(doc, max_new_tokens=12, temperature=1.5, seed=seed).token_ids

    doc = docs[0]
    assert sample(doc, 1) == sample(doc, 1)
    assert sample(doc, 1) != sample(doc, 2)
    assert sample(doc, 1) != sample(Document(doc.parts, id="other"), 1)


def test_strings_pictures_and_parts_are_documents_of_one_part(generator, pictures):
    options = {"max_new_tokens": 4}
    text = generator.generate("a dog", **options)
    assert text == generator.generate(Document([Text("a dog")]), **options)
    assert text == generator.generate(Text("a dog"), **options)
    picture = generator.generate(pictures[0], **options)
    assert picture == generator.generate([Document([Image(pictures[0])])], **options)[0]
    assert generator.generate([], **options) == []
    with pytest.raises(ConfigError, match="found int"):
        generator.generate([3], **options)


def test_an_array_and_its_picture_get_the_same_reply(generator, pictures):
    array = np.asarray(pictures[0])
    first = generator.generate(Document([Image(array), Text("a")]), max_new_tokens=4)
    assert first == generator.generate(Document([Image(pictures[0]), Text("a")]), max_new_tokens=4)


def test_images_of_a_call_are_encoded_once(generator, docs, monkeypatch):
    counts = []
    generator.image_cache.clear()
    encode_images = generator.model.encode_images

    def counting(pixels: torch.Tensor) -> torch.Tensor:
        counts.append(len(pixels))
        return encode_images(pixels)

    monkeypatch.setattr(generator.model, "encode_images", counting)
    generator.generate(docs, max_new_tokens=2, num_beams=3, batch_size=2)
    assert sum(counts) == 3
    counts.clear()
    generator.image_cache.clear()
    generator.score(docs[2], ["yes", "no", "a dog"])
    assert sum(counts) == 2


def test_a_prompt_that_fills_the_context_is_refused(generator):
    long = Document([Text("dog " * 200)], id="long")
    with pytest.raises(DataError, match=r"'long': expected fewer tokens than the context of 96"):
        generator.generate(long)
    with pytest.raises(DataError, match="fewer tokens than the context of 4"):
        generator.generate("a red dog left of the star", max_total_tokens=4)
    with pytest.raises(DataError, match="fewer tokens"):
        generator.logits(long)


def test_a_reply_never_grows_beyond_the_context(generator):
    prompt = Document([Text("dog " * 20)])
    size = len(generator.encode(prompt))
    for options in ({}, {"num_beams": 3}):
        reply = generator.generate(prompt, max_new_tokens=200, min_new_tokens=200, **options)
        assert size + len(reply.token_ids) == 96
        assert reply.finish == "length"
        short = generator.generate(prompt, min_new_tokens=9, max_total_tokens=size + 3, **options)
        assert len(short.token_ids) == 3


def test_the_released_decoding_runs(generator, docs):
    for decoding in (RELEASED, RELEASED_BEAMS):
        replies = generator.generate(docs, decoding=decoding, max_new_tokens=20)
        assert replies == generator.generate(docs, decoding=decoding, max_new_tokens=20)
    assert any(reply.text for reply in replies)


def test_an_unknown_option_is_refused_with_the_nearest_name(generator):
    with pytest.raises(ConfigError, match="did you mean 'num_beams'"):
        generator.generate("a", num_beam=2)
    with pytest.raises(ConfigError, match="batch_size: expected at least 1"):
        generator.generate(["a"], batch_size=0)


def test_stop_strings_end_a_reply_before_them(generator):
    whole = generator.generate("a dog", max_new_tokens=20, min_new_tokens=20)
    string = whole.markup[3:6]
    cut = generator.generate("a dog", max_new_tokens=20, min_new_tokens=20, stop=(string,))
    assert cut.finish == "stop"
    assert len(cut.token_ids) < 20
    assert cut.markup == whole.markup[: whole.markup.index(string)].rstrip()


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"temperature": 1.0}])
def test_a_reply_that_stops_after_a_string_ends_in_it(generator, options):
    whole = generator.generate("a dog", max_new_tokens=20, min_new_tokens=20, **options)
    string = whole.markup[3:6]
    cut = generator.generate("a dog", max_new_tokens=20, stop_after=(string,), **options)
    assert string not in cut.markup[: -len(string)]
    if not options.get("num_beams"):
        # of beams another may win that never says it
        assert (cut.finish, cut.markup[-len(string) :]) == ("stop", string)
        pieces = list(generator.stream("a dog", max_new_tokens=20, stop_after=(string,), **options))
        assert pieces[-1].reply == cut
        assert "".join(piece.text for piece in pieces) == cut.text


def test_logits_are_float32_for_every_token(generator, docs):
    for doc in docs:
        logits = generator.logits(doc)
        assert logits.shape == (len(generator.encode(doc)), generator.tokenizer.vocabulary.size)
        assert logits.dtype == torch.float32
        reply = generator.generate(doc, max_new_tokens=1)
        assert reply.logprob == pytest.approx(
            float(logits[-1].log_softmax(-1)[reply.token_ids[0]]), abs=1e-5
        )


def test_a_model_with_nan_is_told_apart_from_a_bad_reply(tokenizer):
    model = make_model(tokenizer.vocabulary.size, seed=0)
    with torch.no_grad():
        model.decoder.norm.weight[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"document 1: .* found NaN at step 0"):
        make_generator(tokenizer, model).generate(
            [Document([Text("a")], id="fine"), Document([])], batch_size=1
        )


def test_a_saved_model_is_loaded_by_its_public_name(generator, docs, tmp_path):
    save_model(
        tmp_path / "model",
        model=generator.model,
        tokenizer=generator.tokenizer,
        image=generator.image,
        layout=generator.layout,
        provenance=None,
    )
    loaded = kosmos.load(tmp_path / "model")
    assert isinstance(loaded, kosmos.Generator)
    decoding = Decoding(max_new_tokens=6)
    # encoded in another batch, a picture differs by rounding
    generator.image_cache.clear()
    assert loaded.generate(docs, decoding=decoding) == generator.generate(docs, decoding=decoding)
    half = kosmos.load(tmp_path / "model", dtype="bfloat16")
    assert len(half.generate(docs, num_beams=2, max_new_tokens=6)) == len(docs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", SETTINGS)
def test_replies_and_scores_on_a_gpu_are_those_on_the_cpu(tokenizer, docs, options):
    here = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=3))
    there = make_generator(tokenizer, make_model(tokenizer.vocabulary.size, seed=3).cuda())
    expected = here.generate(docs, max_new_tokens=12, **options)
    found = there.generate(docs, max_new_tokens=12, **options)
    assert [reply.token_ids for reply in found] == [reply.token_ids for reply in expected]
    pairs = zip(
        there.score(docs[2], ["yes", "a dog"]), here.score(docs[2], ["yes", "a dog"]), strict=True
    )
    for one, other in pairs:
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
    assert there.logits(docs[0]).device.type == "cpu"
