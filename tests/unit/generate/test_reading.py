"""How much a model reads at once: as much as its positions can tell apart."""

import logging

import numpy as np
import pytest
import torch

from kosmos.document.encode import Encoded
from kosmos.document.types import Document, Image, Text
from kosmos.errors import DataError
from kosmos.generate import reading, schedule
from kosmos.generate.config import Decoding
from kosmos.generate.generator import Generator
from kosmos.generate.reply import Failure
from kosmos.generate.request import Generate
from tests.unit.generate.random_models import make_generator, make_model

TRAINED = 96
LONG = Document([Text("a red dog left of the star. " * 60)], id="long")


@pytest.fixture
def relative(tokenizer) -> Generator:
    """A model with xPos."""
    return make_generator(
        tokenizer, make_model(tokenizer.vocabulary.size, seed=2, positions="xpos")
    )


def uncached(generator: Generator, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        hidden = generator.model(torch.tensor([ids]))
        return generator.model.logits(hidden[0]).log_softmax(-1)


def test_a_model_with_xpos_reads_and_writes_beyond_what_it_was_trained_on(relative):
    ids = relative.encode(LONG).token_ids.tolist()
    assert len(ids) > 4 * TRAINED
    reply = relative.generate(LONG, max_new_tokens=6, min_new_tokens=6)
    log_probs = uncached(relative, [*ids, *reply.token_ids])
    expected = [float(log_probs[len(ids) - 1 + n, t]) for n, t in enumerate(reply.token_ids)]
    assert reply.token_logprobs == pytest.approx(expected, abs=1e-4)
    assert [r.token_ids for r in relative.generate([LONG, "a dog"], max_new_tokens=6)] == [
        relative.generate(doc, max_new_tokens=6).token_ids for doc in (LONG, "a dog")
    ]
    score, _ = relative.score(LONG, ["dog", "a star"])
    dog = relative.tokenizer.encode("dog")
    log_probs = uncached(relative, [*ids, *dog])
    total = sum(float(log_probs[len(ids) - 1 + n, token]) for n, token in enumerate(dog))
    assert score.logprob == pytest.approx(total, abs=1e-4)
    assert len(relative.logits(LONG)) == len(ids)


def test_boxes_are_found_and_replies_told_behind_long_prompts_too(relative, pictures):
    doc = Document([*LONG.parts, Image(pictures[0])])
    assert len(relative.locate(doc, "a dog", k=3)) == 3
    *_, last = relative.stream(LONG, max_new_tokens=4)
    assert last.reply.token_ids == relative.generate(LONG, max_new_tokens=4).token_ids


def test_a_reply_goes_on_past_the_trained_length_where_positions_allow_it(relative, generator):
    prompt = Document([Text("dog " * 20)])
    size = len(generator.encode(prompt))
    options = {"max_new_tokens": 100, "min_new_tokens": 100}
    assert len(relative.generate(prompt, **options).token_ids) == 100
    assert len(generator.generate(prompt, **options).token_ids) == TRAINED - size
    bound = relative.generate(prompt, max_total_tokens=TRAINED, **options)
    assert len(bound.token_ids) == TRAINED - size


def test_sinusoidal_positions_end_where_training_ended(generator):
    with pytest.raises(DataError, match=f"document 'long': .* the context of {TRAINED}, found"):
        generator.generate(LONG)


def test_xpos_has_a_bound_on_memory(relative, monkeypatch):
    monkeypatch.setattr(relative._reader, "context", 300)
    found = dict(relative.answer([Generate(doc=LONG), Generate(doc=Document([Text("a")]))]))
    assert isinstance(found["0"], Failure)
    assert "fewer tokens than the context of 300" in str(found["0"].error)
    assert not isinstance(found["1"], Failure)
    assert reading.EXTRAPOLATED_TOKENS >= 2**16


def test_reading_more_than_was_trained_is_told_once(relative, caplog):
    with caplog.at_level(logging.WARNING, logger="kosmos.generate.reading"):
        relative.generate("a dog", max_new_tokens=1)
        assert not caplog.records
        relative.generate([LONG, LONG], max_new_tokens=1)
    (record,) = caplog.records
    assert "document 'long' has" in record.getMessage()
    assert f"more than the {TRAINED} the model was trained on" in record.getMessage()


def row(*token_ids: int) -> Encoded:
    return Encoded(
        token_ids=np.array(token_ids),
        image_slots=np.zeros(len(token_ids), np.bool_),
        loss_mask=np.zeros(len(token_ids), np.bool_),
        images=(),
        image_sizes=(),
    )


def test_long_prompts_are_read_fewer_at_a_time(monkeypatch):
    lengths = [100, 100, 100, 400, 400, 3]
    groups = [[index] for index in range(len(lengths))]
    (whole,) = schedule.batches(groups, lengths, most=8)
    assert len(whole) == 6
    monkeypatch.setattr(schedule, "_MOST_MASK_CELLS", 4 * 100**2)
    found = schedule.batches(groups, lengths, most=8)
    assert found == [[[5], [0], [1], [2]], [[3]], [[4]]]


def test_prompts_that_begin_alike_share_a_row_while_its_tree_is_small(monkeypatch):
    rows = [row(*range(100), 200 + number, *[300] * 40) for number in range(4)]
    assert schedule.shared_groups(rows, most=8) == [[0, 1, 2, 3]]
    monkeypatch.setattr(schedule, "_MOST_MASK_CELLS", 200**2)
    assert schedule.shared_groups(rows, most=8) == [[0, 1], [2, 3]]


def test_a_limit_on_all_tokens_is_kept_by_xpos_too(relative):
    with pytest.raises(DataError, match="fewer tokens than the context of 50"):
        relative.generate(LONG, decoding=Decoding(max_total_tokens=50))
