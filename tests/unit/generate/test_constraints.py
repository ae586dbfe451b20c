"""What may not be chosen next."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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
