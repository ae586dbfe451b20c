"""Every way to search against transformers on the same random weights: the same tokens.

The models, prompts and what makes the comparison fair are those of test_huggingface_generate.py.
"""

import itertools

import numpy as np
import pytest
import torch

from kosmos.generate.config import Decoding
from kosmos.generate.sampling import draw
from kosmos.weights.huggingface_tokenizer import write_tokenizer
from tests.parity import test_huggingface_generate as generate
from tests.parity.test_huggingface_generate import DOCS, EOS, MAX_NEW_TOKENS, PAD
from tests.unit.generate.random_models import small_tokenizer

transformers = pytest.importorskip("transformers")
pair = generate.pair

PENALTIES = (-1.5, 0.0, 1.0, 2.0)
ENDINGS = (True, False, "never")
RULES = [
    {},
    {"no_repeat_ngram_size": 2},
    {"min_new_tokens": 5},
    {"min_new_tokens": 9, "no_repeat_ngram_size": 3},
]


def ours_and_theirs(pair, options: dict, **theirs: object) -> tuple[list, list]:
    replies = pair.ours.generate(DOCS, max_new_tokens=MAX_NEW_TOKENS, **options)
    options = {name: options[name] for name in options if name not in ("stop", "constraint")}
    found = [pair.their_reply([doc], **options, **theirs)[0] for doc in DOCS]
    return [list(reply.token_ids) for reply in replies], found


class Shown:
    """Allows ids that have a text in a reply; the others have one in theirs only."""

    hidden = (0, PAD, 3, *range(41, 47))

    def allowed(self, prompt, reply, remaining):
        return np.setdiff1d(np.arange(small_tokenizer().vocabulary.size), self.hidden)


def unpadded(token_ids: list[int]) -> list[int]:
    return list(itertools.takewhile(lambda token_id: token_id != PAD, token_ids))


@pytest.fixture(scope="module")
def their_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, small_tokenizer())
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("which", range(len(RULES)), ids=map(str, RULES))
@pytest.mark.parametrize("num_beams", range(2, 8))
def test_beams_of_every_kind_find_the_tokens_of_transformers(pair, num_beams, which):
    """Every pair of options; all 5,760 replies of every combination were the same (2 minutes)."""
    for number, penalty in enumerate(PENALTIES):
        ending = ENDINGS[(number + num_beams + which) % len(ENDINGS)]
        options = {"num_beams": num_beams, "length_penalty": penalty, "early_stopping": ending}
        ours, theirs = ours_and_theirs(pair, {**options, **RULES[which]})
        assert ours == theirs, options


@pytest.mark.parametrize("early_stopping", ENDINGS)
def test_the_runners_up_are_those_of_transformers(pair, early_stopping):
    options = {"num_beams": 5, "early_stopping": early_stopping}
    for doc in DOCS:
        ours = pair.ours.generate_n(doc, 5, max_new_tokens=MAX_NEW_TOKENS, **options)
        theirs = pair.their_reply([doc], num_return_sequences=5, **options)
        assert [list(reply.token_ids) for reply in ours] == [unpadded(ids) for ids in theirs]


# none begins with the last character of a prompt, where theirs would let it begin
STOPS = [("d",), ("st", "no"), ("</phrase>", ". "), ("q", "u", "w", "i", "l", "n")]
STOPPED = [
    {},
    {"min_new_tokens": 10},
    {"num_beams": 2},
    {"num_beams": 4, "early_stopping": True},
    {"num_beams": 4, "early_stopping": "never", "length_penalty": 2.0},
    {"num_beams": 5, "min_new_tokens": 8, "no_repeat_ngram_size": 3},
]


@pytest.mark.parametrize("options", STOPPED, ids=str)
@pytest.mark.parametrize("stop", STOPS, ids=str)
def test_stop_strings_end_replies_where_transformers_ends_them(
    pair, their_tokenizer, options, stop
):
    ours, theirs = ours_and_theirs(
        pair,
        {**options, "stop": stop, "constraint": Shown()},
        stop_strings=list(stop),
        tokenizer=their_tokenizer,
        suppress_tokens=list(Shown.hidden),
    )
    assert ours == theirs


def test_the_stop_strings_above_end_many_replies_and_some_at_different_places(pair):
    """Else the comparison above would be of nothing."""
    ended = []
    for stop in STOPS:
        for options in ({}, {"num_beams": 5}):
            cut = pair.ours.generate(
                DOCS, max_new_tokens=MAX_NEW_TOKENS, stop=stop, constraint=Shown(), **options
            )
            ended += [
                len(reply.token_ids)
                for reply in cut
                if reply.finish == "stop" and reply.token_ids[-1] != EOS
            ]
    assert len(ended) >= 5
    assert len(set(ended)) >= 3


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [0, 1, 5, 40, 300])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5, 0.05])
def test_tokens_are_drawn_with_the_probabilities_of_the_warpers(temperature, top_k, top_p):
    """Both ends of each token's interval give it: the kept sets and the distribution agree."""
    warpers = transformers.generation.logits_process
    log_probs = (2 * torch.randn(8, 200, generator=torch.Generator().manual_seed(0))).log_softmax(
        -1
    )
    log_probs[:, 7] = float("-inf")
    scores = warpers.TemperatureLogitsWarper(temperature)(None, log_probs)
    if top_k:
        scores = warpers.TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1.0:
        scores = warpers.TopPLogitsWarper(top_p)(None, scores)
    decoding = Decoding(temperature=temperature, top_k=top_k, top_p=top_p)
    for row, kept in zip(log_probs, scores, strict=True):
        probs, order = kept.double().softmax(-1).sort(descending=True)
        order = order[probs > 1e-5]
        probs = probs[probs > 1e-5]
        ends = probs.cumsum(0)
        # theirs is rounded to float32
        inside = torch.cat([ends - probs + 1e-6, ends - 1e-6])
        drawn = draw(row.expand(len(inside), -1), decoding, inside)
        assert torch.equal(drawn, torch.cat([order, order]))
        last = draw(row[None], decoding, torch.tensor([1.0 - 1e-12], dtype=torch.float64))
        assert kept[last].isfinite()
