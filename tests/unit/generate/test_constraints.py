"""What may not be chosen next."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kosmos.errors import ConfigError
from kosmos.generate.config import Decoding
from kosmos.generate.constraints import Constraints, Place, StopStrings, repeating_ids
from kosmos.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(num_pieces=20, num_cells=2)


def allowed(decoding: Decoding, prompt: list[int], reply: list[int]) -> set[int]:
    constraints = Constraints.of(decoding, VOCABULARY)
    log_probs = torch.zeros(1, VOCABULARY.size)
    constraints.mask(log_probs, [Place(prompt, reply, 9)])
    return set(log_probs[0].isfinite().nonzero().flatten().tolist())


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 4))
def test_a_repeating_id_is_one_that_makes_an_ngram_occur_twice(history, size):
    def ngrams(ids: list[int]) -> list[tuple[int, ...]]:
        return [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]

    before = ngrams(history)
    expected = [
        i for i in range(4) if len(history) >= size - 1 and ngrams([*history, i])[-1] in before
    ]
    assert repeating_ids(history, size) == expected


def test_pad_is_never_chosen_unless_allowed():
    everything = set(range(VOCABULARY.size))
    assert allowed(Decoding(), [0, 5], []) == everything - {1}
    assert allowed(Decoding(allow_pad=True), [0, 5], []) == everything


def test_the_end_waits_for_the_least_number_of_tokens():
    decoding = Decoding(min_new_tokens=2)
    assert 2 not in allowed(decoding, [0], [7])
    assert 2 in allowed(decoding, [0], [7, 8])


def test_ngrams_of_the_prompt_count():
    decoding = Decoding(no_repeat_ngram_size=3)
    assert 6 not in allowed(decoding, [0, 4, 5, 6, 4], [5])
    assert 6 in allowed(decoding, [0, 4, 5, 6, 5], [5])


def test_the_first_token_of_the_release_escapes_both_rules():
    released = Decoding(no_repeat_ngram_size=2, first_token="release")
    prompt = [0, 4, 5, 4]
    assert 5 in allowed(released, prompt, [])
    assert 5 not in allowed(Decoding(no_repeat_ngram_size=2), prompt, [])
    assert 5 not in allowed(released, [0, 4, 5], [4])
    constraints = Constraints.of(released, VOCABULARY)
    assert [constraints.stops(2, n) for n in (1, 2)] == [False, True]
    assert Constraints.of(Decoding(), VOCABULARY).stops(2, 1)


class Listed:
    """Allows the same ids everywhere; remembers what it was asked."""

    def __init__(self, ids: Sequence[int] | None) -> None:
        self.ids = None if ids is None else np.array(ids, dtype=np.int64)
        self.asked: list[tuple[list[int], list[int], int]] = []

    def allowed(self, prompt, reply, remaining):
        self.asked.append((list(prompt), list(reply), remaining))
        return self.ids


def left(decoding: Decoding, ids: Sequence[int] | None, reply: Sequence[int] = ()) -> set[int]:
    """What may be chosen behind ``<s> 5 6 5`` and a reply, and keeps its log-probability."""
    constraints = Constraints.of(decoding, VOCABULARY)
    log_probs = torch.randn(1, VOCABULARY.size, generator=torch.Generator().manual_seed(0))
    before = log_probs.clone()
    empty = constraints.mask(log_probs, [Place([0, 5, 6, 5], reply, 9, Listed(ids))])
    found = set(log_probs[0].isfinite().nonzero().flatten().tolist())
    assert list(empty) == ([] if found else [0])
    assert all(log_probs[0, index] == before[0, index] for index in found)
    return found


ids_of_any_number = st.sets(st.integers(0, VOCABULARY.size - 1), max_size=VOCABULARY.size)


@given(ids_of_any_number, st.lists(st.integers(2, 8), max_size=6), st.integers(0, 5), st.booleans())
def test_a_constraint_always_holds_and_rules_hold_while_they_leave_something(
    ids, reply, least, allow_pad
):
    decoding = Decoding(min_new_tokens=least, no_repeat_ngram_size=2, allow_pad=allow_pad)
    hard = ids - ({1} if not allow_pad else set())
    soft = hard - ({2} if len(reply) < least else set()) or hard
    softer = soft - set(repeating_ids([0, 5, 6, 5, *reply], 2)) or soft
    assert left(decoding, sorted(ids), reply) == softer


def test_no_constraint_and_one_that_allows_anything_are_the_same():
    assert left(Decoding(), None) == set(range(VOCABULARY.size)) - {1}


def test_rows_have_constraints_of_their_own():
    constraints = Constraints.of(Decoding(), VOCABULARY)
    few, most = Listed([4, 7]), Listed(range(3, VOCABULARY.size))
    log_probs = torch.zeros(5, VOCABULARY.size)
    places = [Place([0], [], 9, c) for c in (few, None, most, few, Listed([]))]
    assert list(constraints.mask(log_probs, places)) == [4]
    counts = log_probs.isfinite().sum(dim=1).tolist()
    assert counts == [2, VOCABULARY.size - 1, VOCABULARY.size - 3, 2, 0]


def test_a_constraint_is_told_the_reply_less_an_end_that_did_not_stop_it():
    released = Constraints.of(Decoding(first_token="release"), VOCABULARY)
    usual = Constraints.of(Decoding(), VOCABULARY)
    listed = Listed([4])
    for constraints in (released, usual):
        constraints.mask(torch.zeros(1, VOCABULARY.size), [Place([0, 5], [2, 7], 3, listed)])
    assert listed.asked == [([0, 5], [7], 3), ([0, 5], [2, 7], 3)]


@pytest.mark.parametrize("ids", [[-1, 4], [4, VOCABULARY.size]])
def test_ids_that_do_not_exist_are_refused(ids):
    last = VOCABULARY.size - 1
    log_probs = torch.zeros(2, VOCABULARY.size)
    places = [Place([0], [], 9, Listed(ids)), Place([0], [], 9)]
    errors = Constraints.of(Decoding(), VOCABULARY).mask(log_probs, places)
    assert list(errors) == [0]
    assert re.match(f"document: expected .* ids from 0 to {last}, found", str(errors[0]))


def test_a_constraint_that_allows_nothing_is_told_before_a_model_is_asked():
    constraints = Constraints.of(Decoding(), VOCABULARY)
    for ids in ([], [VOCABULARY.pad_id]):
        with pytest.raises(ConfigError, match=r"^document 'a': expected a token that is allowed"):
            constraints.check(Place([0], [], 9, Listed(ids), "document 'a'"))
    constraints.check(Place([0], [], 9, Listed([4])))
    constraints.check(Place([0], [], 9, None))


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"num_beams": 3}])
def test_a_reply_that_can_neither_go_on_nor_end_is_an_error_that_names_the_document(
    generator, options
):
    class DeadEnd:
        def allowed(self, prompt, reply, remaining):
            return np.array([5, 6] if len(reply) < 2 else [], dtype=np.int64)

    with pytest.raises(ConfigError, match=r"^document 1: .* after 2 tokens of the reply"):
        generator.generate(["a dog", "a star"], constraint=[None, DeadEnd()], **options)


@pytest.mark.parametrize("string", ["r", "red", "d<phrase> c", "circle", "</phrase> le"])
def test_a_stop_string_is_seen_when_its_last_token_comes(tokenizer, string):
    ids = tokenizer.encode_markup("a red<phrase> circle</phrase> left")
    watch = StopStrings((string, "never"), tokenizer.stream())
    texts = []
    for index, token_id in enumerate(ids):
        texts.append(tokenizer.decode(ids[: index + 1]))
        watch = watch.after(token_id)
        assert watch.is_complete == (string in texts[-1])
        if watch.is_complete:
            break
    assert string in texts[-1]


def test_two_replies_that_begin_alike_are_watched_each_by_itself(tokenizer):
    *begun, last = tokenizer.encode("a red circle")
    other = tokenizer.encode("a")[-1]
    watch = StopStrings(("red circle",), tokenizer.stream())
    for token_id in begun:
        watch = watch.after(token_id)
    assert not watch.after(other).after(last).is_complete
    assert watch.after(last).is_complete
    assert not watch.is_complete
