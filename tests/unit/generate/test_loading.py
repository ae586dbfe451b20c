"""A model that is loaded is packed when it pays; one that a caller gives, never."""

import dataclasses
import logging

import pytest
import torch

from kosmos.document.types import Document, Image, Text
from kosmos.generate.generator import Generator
from kosmos.model.forms import packed
from kosmos.model.forms.convert import is_packed
from kosmos.model.forms.int8 import is_int8
from kosmos.weights.folder import save_model
from kosmos.weights.loaded import LoadedModel
from kosmos.weights.quantize import quantize_folder
from tests.unit.generate.random_models import make_model

needs_kernels = pytest.mark.skipif(
    not packed.can_pack(torch.zeros(512, 512)), reason="torch is built without oneDNN"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer, generator):
    path = tmp_path_factory.mktemp("loading") / "model"
    save_model(
        path,
        model=make_model(tokenizer.vocabulary.size, seed=3),
        tokenizer=tokenizer,
        image=generator.image,
        layout=generator.layout,
        provenance=None,
    )
    return path


@pytest.fixture
def tiny_is_enough(monkeypatch):
    """Tiny matrices are packed as well."""
    monkeypatch.setattr("kosmos.generate.reading.pack_model", _pack_everything)


def _pack_everything(model):
    from kosmos.model.forms.convert import pack_model

    return pack_model(model, min_elements=1)


@pytest.fixture
def docs(pictures):
    return [
        Document([Text("A red circle")]),
        Document([Image(pictures[0]), Text("An image of")]),
        Document([Image(pictures[1]), Text("What is it?")]),
    ]


@needs_kernels
@pytest.mark.parametrize("beams", [1, 3])
def test_packed_model_gives_the_replies_of_the_plain_one(
    folder, generator, docs, beams, tiny_is_enough
):
    loaded = Generator.load(folder, pack=True)
    options = {"max_new_tokens": 12, "num_beams": beams}
    expected = generator.generate(docs, **options)
    found = loaded.generate(docs, **options)
    assert [reply.token_ids for reply in found] == [reply.token_ids for reply in expected]
    assert is_packed(loaded.model)


@pytest.fixture
def packed_models(monkeypatch):
    """Models that were packed, in order."""
    calls = []
    monkeypatch.setattr(
        "kosmos.generate.reading.pack_model",
        lambda model: calls.append(model) or _pack_everything(model),
    )
    return calls


@needs_kernels
def test_packing_at_once_says_so(folder, packed_models, caplog):
    with caplog.at_level(logging.INFO, logger="kosmos.generate.reading"):
        loaded = Generator.load(folder, pack=True)
    assert packed_models == [loaded.model]
    assert [record.message.split(" in ")[0] for record in caplog.records] == ["packed 24 matrices"]
    loaded.generate("A red", max_new_tokens=40)
    assert len(packed_models) == 1


@needs_kernels
@pytest.mark.parametrize(
    "request_of",
    [
        lambda model: model.generate("A red", max_new_tokens=12, min_new_tokens=12),
        lambda model: list(model.stream("A red", max_new_tokens=12, min_new_tokens=12)),
        lambda model: model.score("A red", ["circle"] * 90),
    ],
    ids=["generate", "stream", "score"],
)
def test_a_model_is_packed_once_when_what_was_asked_is_worth_it(folder, packed_models, request_of):
    loaded = Generator.load(folder)
    counts = []
    for _ in range(8):
        request_of(loaded)
        counts.append(len(packed_models))
    assert counts[0] == 0
    assert counts[-1] == 1


@needs_kernels
@pytest.mark.parametrize(
    "request_of",
    [
        lambda model: model.generate("A red", num_beams=3),
        lambda model: model.generate(["A red", "A blue"]),
        lambda model: model.generate_n("A red", 2, temperature=1.0),
    ],
    ids=["beams", "several documents", "several replies"],
)
def test_a_long_request_of_several_rows_packs_before_it_begins(folder, packed_models, request_of):
    loaded = Generator.load(folder)
    request_of(loaded)
    assert len(packed_models) == 1


def test_packing_can_be_declined(folder, monkeypatch):
    monkeypatch.setattr("kosmos.generate.reading.pack_model", lambda _: 1 / 0)
    loaded = Generator.load(folder, pack=False)
    loaded.generate("A red", max_new_tokens=2)
    assert not is_packed(loaded.model)


def test_model_of_a_caller_stays_as_it_is(tokenizer, generator, monkeypatch):
    monkeypatch.setattr("kosmos.generate.reading.pack_model", lambda _: 1 / 0)
    model = make_model(tokenizer.vocabulary.size, seed=3)
    fields = {"tokenizer": tokenizer, "image": generator.image, "layout": generator.layout}
    mine = Generator(LoadedModel(model=model, **fields))
    mine.generate("A red", max_new_tokens=2)
    assert mine.model is model
    assert not is_packed(model)


def test_one_switch_quantizes_and_a_quantized_folder_needs_none(folder, docs, tmp_path):
    quantize_folder(folder, tmp_path / "int8")
    switched = Generator.load(folder, quantize="int8")
    stored = Generator.load(tmp_path / "int8")
    assert is_int8(switched.model)
    assert is_int8(stored.model)
    replies = [
        [dataclasses.asdict(reply) for reply in model.generate(docs, max_new_tokens=9)]
        for model in (switched, stored)
    ]
    assert replies[0] == replies[1]
    assert torch.equal(switched.logits(docs[1]), stored.logits(docs[1]))


@pytest.mark.parametrize("beams", [1, 3])
def test_quantized_replies_do_not_depend_on_the_batch(folder, docs, beams):
    model = Generator.load(folder, quantize="int8")
    options = {"max_new_tokens": 9, "num_beams": beams}
    together = model.generate(docs, **options)
    alone = [model.generate(doc, **options) for doc in docs]
    assert [reply.token_ids for reply in together] == [reply.token_ids for reply in alone]
