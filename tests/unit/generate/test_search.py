"""Search over a model that is a table: greedy, beams, and what makes a row end."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kosmos import runtime
from kosmos.errors import ConfigError
from kosmos.generate.config import Decoding
from kosmos.generate.constraints import Constraints, StopStrings
from kosmos.generate.search import Draft, Rows, Start, _top, choose_replies, rank_beams
from tests.unit.generate.random_models import small_tokenizer

EOS = 2
VOCAB = 12


class Table:
    """Rows whose next token depends on the whole history, by a hash; remembers batch sizes."""

    def __init__(self, prompts: Sequence[Sequence[int]], *, seed: int = 0, eos: float = 0.0):
        self.histories = [tuple(prompt) for prompt in prompts]
        self.seed, self.eos = seed, eos
        self.batches = [len(prompts)]
        self.log_probs = self._log_probs()

    def step(
        self,
        rows: Sequence[int],
        token_ids: Sequence[int],
        *,
        ahead: Sequence[Sequence[object]] = (),
    ) -> Tensor:
        del ahead
        pairs = zip(rows, token_ids, strict=True)
        self.histories = [(*self.histories[row], token) for row, token in pairs]
        self.batches.append(len(rows))
        return self._log_probs()

    def _log_probs(self) -> Tensor:
        return torch.stack([table(history, self.seed, self.eos) for history in self.histories])


def table(history: Sequence[int], seed: int, eos: float) -> Tensor:
    rng = runtime.generator(seed, *history)
    logits = torch.from_numpy(rng.normal(size=VOCAB)).float()
    logits[EOS] += eos
    return logits.log_softmax(-1)


def watch(stop: tuple[str, ...]) -> StopStrings | None:
    return StopStrings(stop, small_tokenizer().stream()) if stop else None


def num_until_stop(reply: Sequence[int], stop: tuple[str, ...]) -> int:
    """Tokens of a reply until it holds a stop string; all of them if it does not."""
    for size in range(1, len(reply)):
        text = small_tokenizer().decode(reply[:size])
        if any(string in text for string in stop):
            return size
    return len(reply)


def starts(prompts: Sequence[Sequence[int]], limit: int, decoding: Decoding) -> list[Start]:
    return [
        Start(
            prompt=list(prompt),
            limit=limit,
            rng=runtime.generator(decoding.seed, "sample", ""),
            stop=watch(decoding.stop),
            prompt_log_prob=-2.0 * len(prompt),
        )
        for prompt in prompts
    ]


def rules(decoding: Decoding) -> Constraints:
    return Constraints(
        vocab_size=VOCAB,
        eos_id=EOS,
        banned_ids=(1,),
        min_new_tokens=decoding.min_new_tokens,
        ngram_size=decoding.no_repeat_ngram_size,
        free_first=decoding.first_token == "release",
    )


def search_beams(
    rows: Rows, starts: Sequence[Start], decoding: Decoding, constraints: Constraints
) -> list[Draft]:
    return [drafts[0] for drafts in rank_beams(rows, starts, decoding, constraints)]


def run(
    prompts: Sequence[Sequence[int]],
    *,
    limit: int = 6,
    seed: int = 0,
    eos: float = 0.0,
    one_beam: bool = False,
    **options: object,
) -> list[Draft]:
    if one_beam:
        options = {**options, "num_beams": 2}
    decoding = Decoding(max_new_tokens=limit, **options)
    search = search_beams if decoding.num_beams > 1 else choose_replies
    if one_beam:
        # refused beside options of beams, since nobody would want it
        object.__setattr__(decoding, "num_beams", 1)
    rows = Table(prompts, seed=seed, eos=eos)
    return search(rows, starts(prompts, limit, decoding), decoding, rules(decoding))


def logprobs_of(prompt: Sequence[int], reply: Sequence[int], seed: int, eos: float) -> list[float]:
    return [float(table([*prompt, *reply[:i]], seed, eos)[token]) for i, token in enumerate(reply)]


def logprob_of(prompt: Sequence[int], reply: Sequence[int], seed: int, eos: float) -> float:
    return sum(logprobs_of(prompt, reply, seed, eos))


PROMPTS = [[0, 5], [0, 6, 7, 8], [0], [0, 9, 9]]


@given(
    st.integers(0, 10**6),
    # "never" with a positive penalty hopes for what a longer reply may be worth
    st.sampled_from([(early, p) for early in (True, False) for p in (-1.0, 0.0, 1.0, 2.0)])
    | st.just(("never", -1.0)),
    st.sampled_from(
        [
            {},
            {"no_repeat_ngram_size": 1},
            {"min_new_tokens": 3},
            {"stop": ("t", "ea")},
            {"first_token": "release", "no_repeat_ngram_size": 2},
        ]
    ),
    st.booleans(),
)
@settings(max_examples=60)
def test_one_beam_is_greedy(seed, ending, options, score_prompt):
    early_stopping, length_penalty = ending
    greedy = run(PROMPTS, seed=seed, eos=1.0, **options)
    beams = run(
        PROMPTS,
        seed=seed,
        eos=1.0,
        one_beam=True,
        early_stopping=early_stopping,
        length_penalty=length_penalty,
        score_prompt=score_prompt,
        **options,
    )
    assert beams == greedy


@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 1.0, -0.5, 2.0]),
    st.sampled_from([(), ("to",)]),
    st.booleans(),
)
@settings(max_examples=20)
def test_enough_beams_find_the_best_of_all_replies(seed, penalty, stop, score_prompt):
    decoding = Decoding(
        max_new_tokens=3,
        num_beams=48,
        length_penalty=penalty,
        early_stopping="never",
        stop=stop,
        score_prompt=score_prompt,
    )
    for prompt in PROMPTS:
        rows = _Padded([prompt], seed, (EOS, 5, 6, 7))
        (drafts,) = rank_beams(rows, starts([prompt], 3, decoding), decoding, rules(decoding))
        every = all_replies(prompt, seed, decoding)
        assert len(drafts) == len(every) == (37 if stop else 40)
        assert [draft.token_ids for draft in drafts] == every


class _Padded(Table):
    """The table with a wide vocabulary of which few tokens are possible."""

    def __init__(self, prompts: Sequence[Sequence[int]], seed: int, possible: Sequence[int]):
        self.possible = list(possible)
        super().__init__(prompts, seed=seed)

    def _log_probs(self) -> Tensor:
        small = super()._log_probs()
        wide = torch.full((len(small), 96), float("-inf"))
        wide[:, self.possible] = small[:, self.possible]
        return wide


def all_replies(prompt: Sequence[int], seed: int, decoding: Decoding) -> list[list[int]]:
    """Every reply of up to three tokens, best first; a prompt's tokens have -2 each in starts."""
    tokens = (5, 6, 7)
    replies = {
        tuple(reply[: num_until_stop(reply, decoding.stop)])
        for length in (0, 1, 2)
        for middle in itertools.product(tokens, repeat=length)
        for last in ((EOS,) if length < 2 else (EOS, *tokens))
        for reply in ([*middle, last],)
    }
    before, counted = (-2.0 * len(prompt), len(prompt) - 1) if decoding.score_prompt else (0.0, 0)

    def worth(reply: list[int]) -> float:
        logprob = before + logprob_of(prompt, reply, seed, 0.0)
        return logprob / (counted + len(reply)) ** decoding.length_penalty

    return sorted(map(list, replies), key=worth, reverse=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.0, "top_p": 0.9},
        {"num_beams": 3},
        {"num_beams": 4, "early_stopping": True, "length_penalty": 0.3},
        {"num_beams": 3, "early_stopping": "never"},
        {"no_repeat_ngram_size": 2, "num_beams": 2},
    ],
)
def test_a_row_answers_the_same_in_any_batch(options):
    for seed in range(8):
        together = run(PROMPTS, seed=seed, eos=1.0, **options)
        alone = [run([prompt], seed=seed, eos=1.0, **options)[0] for prompt in PROMPTS]
        assert together == alone
    assert len({tuple(draft.token_ids) for draft in together}) > 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7, "top_k": 4},
        {"num_beams": 3},
        {"num_beams": 3, "no_repeat_ngram_size": 1, "score_prompt": True},
    ],
)
def test_log_probabilities_are_the_models_own_at_temperature_one(options):
    for draft, prompt in zip(run(PROMPTS, eos=1.0, **options), PROMPTS, strict=True):
        wanted = logprobs_of(prompt, draft.token_ids, 0, 1.0)
        assert draft.token_logprobs == pytest.approx(wanted, abs=1e-5)
        assert draft.logprob == sum(draft.token_logprobs)


def test_rows_that_are_done_leave_the_batch():
    decoding = Decoding(max_new_tokens=9)
    rows = Table(PROMPTS, seed=4, eos=1.5)
    drafts = choose_replies(rows, starts(PROMPTS, 9, decoding), decoding, rules(decoding))
    lengths = [len(draft.token_ids) for draft in drafts]
    assert rows.batches == [
        sum(length > step for length in lengths) for step in range(max(lengths))
    ]
    assert len(set(lengths)) > 1


def test_a_reply_ends_at_its_limit_or_at_the_end_token():
    for options in ({}, {"num_beams": 3}):
        for draft in run(PROMPTS, eos=1.0, seed=1, limit=5, **options):
            if draft.finish == "stop":
                assert draft.token_ids[-1] == EOS
            else:
                assert len(draft.token_ids) == 5
                assert draft.token_ids[-1] != EOS
            assert EOS not in draft.token_ids[:-1]


def test_no_ngram_of_prompt_and_reply_occurs_twice():
    for options in ({}, {"num_beams": 3}, {"temperature": 0.5}):
        drafts = run(PROMPTS, limit=40, eos=-9.0, no_repeat_ngram_size=2, **options)
        for prompt, draft in zip(PROMPTS, drafts, strict=True):
            ids = [*prompt, *draft.token_ids]
            pairs = list(itertools.pairwise(ids))
            assert len(pairs) == len(set(pairs))
            assert len(draft.token_ids) == 40


def test_the_release_goes_on_after_an_end_token_that_comes_first():
    for options in ({}, {"num_beams": 3}):
        drafts = run(PROMPTS, eos=6.0, first_token="release", **options)
        assert all(draft.token_ids == [EOS, EOS] for draft in drafts)
        assert all(draft.token_ids == [EOS] for draft in run(PROMPTS, eos=6.0, **options))


def test_a_stop_string_ends_a_row():
    # ids 5 to 9 are t, o, e, a and f
    plain = run(PROMPTS, eos=-9.0, limit=12)
    cut = run(PROMPTS, eos=-9.0, limit=12, stop=("t", "ea"))
    for draft, whole in zip(cut, plain, strict=True):
        size = num_until_stop(whole.token_ids, ("t", "ea"))
        assert draft.token_ids == whole.token_ids[:size]
        assert draft.finish == ("stop" if size < 12 else "length")
    assert {draft.finish for draft in cut} == {"stop", "length"}


def test_a_stop_string_ends_a_reply_that_is_shorter_than_the_least():
    for options in ({}, {"num_beams": 3}):
        drafts = run(PROMPTS, eos=-9.0, limit=9, stop=("t", "o", "e"), min_new_tokens=9, **options)
        assert any(draft.finish == "stop" and len(draft.token_ids) < 9 for draft in drafts)


def test_beams_go_on_with_fewer_where_stop_strings_end_most():
    # of eight possible tokens seven end, so of three beams often one or two run on
    decoding = Decoding(max_new_tokens=9, num_beams=3, stop=tuple("toeafn"), early_stopping="never")
    sizes = set()
    for seed in range(10):
        rows = _Padded(PROMPTS, seed, range(2, 12))
        drafts = search_beams(rows, starts(PROMPTS, 9, decoding), decoding, rules(decoding))
        assert all(draft.finish == "stop" for draft in drafts)
        sizes.update(rows.batches)
    assert min(sizes) < 3
    assert len(sizes) > 3


def test_counting_the_prompt_changes_what_length_is_worth():
    # with the prompt counted, a longer reply dilutes the prompt's unlikely tokens
    differing = 0
    for seed in range(30):
        counted = run(PROMPTS, seed=seed, num_beams=4, score_prompt=True, eos=1.0)
        plain = run(PROMPTS, seed=seed, num_beams=4, eos=1.0)
        differing += counted != plain
        for draft, prompt in zip(counted, PROMPTS, strict=True):
            assert draft.logprob == pytest.approx(
                logprob_of(prompt, draft.token_ids, seed, 1.0), abs=1e-5
            )
    assert differing > 5


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([4999, 5120, 700]), st.booleans())
@settings(max_examples=40)
def test_the_best_of_many_tokens_are_those_of_a_sort(seed, count, vocab, is_constrained):
    values = torch.randn(3, vocab, generator=torch.Generator().manual_seed(seed))
    if is_constrained:
        values[:, torch.arange(vocab) % 991 != seed % 991] = float("-inf")
    found, ids = _top(values, count)
    assert torch.equal(found, values.sort(dim=1, descending=True).values[:, :count])
    assert torch.equal(values.gather(1, ids), found)
    assert all(len(set(row)) == count for row in ids.tolist())


def test_more_candidates_than_tokens_are_refused():
    with pytest.raises(ConfigError, match="at most half the vocabulary of 12, found 7"):
        run(PROMPTS, num_beams=7)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"num_beams": 3}])
def test_a_rule_that_forbids_every_token_is_an_error_that_names_the_document(options):
    # no token may stand twice: behind all twelve, and the pad, nothing is left
    rules = {"limit": 40, "eos": -99.0, "no_repeat_ngram_size": 1, "min_new_tokens": 40}
    (draft,) = run([[0]], **rules, **options)
    assert isinstance(draft.error, ConfigError)
    assert str(draft.error).startswith("document: expected a token")
    assert "after 9 tokens" in str(draft.error)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"num_beams": 3}])
def test_rows_beside_one_that_can_say_nothing_are_answered_as_without_it(options):
    class Dead:
        """Nothing may stand behind three tokens."""

        def allowed(self, prompt, reply, remaining):
            del prompt, remaining
            return np.array([5, 6, 7] if len(reply) < 3 else [], dtype=np.int64)

    decoding = Decoding(max_new_tokens=6, **options)
    search = search_beams if decoding.num_beams > 1 else choose_replies
    begun = starts(PROMPTS, 6, decoding)
    begun[1] = replace(begun[1], constraint=Dead())
    drafts = search(Table(PROMPTS, seed=3), begun, decoding, rules(decoding))
    assert "after 3 tokens" in str(drafts.pop(1).error)
    assert drafts == run([PROMPTS[0], *PROMPTS[2:]], seed=3, **options)


def test_a_hypothesis_that_cannot_go_on_dies_and_leaves_the_batch():
    class Fork:
        """5 leads nowhere; 4 goes on to the end."""

        def allowed(self, prompt, reply, remaining):
            del prompt, remaining
            ways = {(): [4, 5], (4,): [6], (5,): [], (4, 6): [7], (4, 6, 7): [EOS]}
            return np.array(ways[tuple(reply)], dtype=np.int64)

    decoding = Decoding(max_new_tokens=6, num_beams=2)
    for seed in range(10):
        rows = Table([[0, 5]], seed=seed)
        (start,) = starts([[0, 5]], 6, decoding)
        start = replace(start, constraint=Fork())
        (draft,) = search_beams(rows, [start], decoding, rules(decoding))
        assert draft.token_ids == [4, 6, 7, EOS]
        assert rows.batches == [1, 2, 1, 1]
        assert sum(draft.token_logprobs) == pytest.approx(
            logprob_of([0, 5], draft.token_ids, seed, 0.0), abs=1e-5
        )
