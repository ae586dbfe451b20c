"""The k most probable boxes are those of reading every pair."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kosmos import Document, Image, Text
from kosmos.errors import ConfigError, DataError, ImageError
from kosmos.generate.generator import Generator
from kosmos.generate.locate import FoundPair, best_pairs
from kosmos.generate.reply import Located
from kosmos.text.locations import locations_to_box
from kosmos.text.prompts import phrase
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.vocabulary import Vocabulary
from tests.unit.generate.random_models import make_generator, make_model

# float32 on CPU; worst seen 9.6e-7 (2026-11-21, torch 2.13). A pair read behind another first
# cell, or in another row, moves it by more than 0.1.
TOLERANCE = 2.9e-6

VOCABULARY = Vocabulary(num_pieces=5, num_cells=3)


def all_pairs(num_cells: int) -> list[tuple[int, int]]:
    """Pairs whose second cell is neither left of nor above the first."""
    return [
        (y0 * num_cells + x0, y1 * num_cells + x1)
        for y0, x0, y1, x1 in itertools.product(range(num_cells), repeat=4)
        if x0 <= x1 and y0 <= y1
    ]


class Table:
    """Rows whose probabilities are numbers in a table, and a count of what was looked at."""

    def __init__(self, firsts: np.ndarray, seconds: np.ndarray) -> None:
        self._firsts, self._seconds = firsts, seconds  # [rows cells], [rows cells cells]
        self.looks: list[tuple[int, int]] = []
        self.log_probs = self._widened(firsts)

    def look_ahead(self, rows, token_ids):
        cells = [token_id - VOCABULARY.first_location_id for token_id in token_ids]
        self.looks += list(zip(rows, cells, strict=True))
        return self._widened(self._seconds[rows, cells])

    def _widened(self, values: np.ndarray) -> torch.Tensor:
        # other tokens are likelier than any location, and must not matter
        wide = np.zeros((len(values), VOCABULARY.size), dtype=np.float32)
        wide[:, VOCABULARY.first_location_id :] = values
        return torch.from_numpy(wide)


def brute_force(
    firsts: np.ndarray, seconds: np.ndarray, k: int, nms: float | None
) -> list[FoundPair]:
    pairs = [
        FoundPair(float(firsts[a].astype(np.float64) + seconds[a, b]), (a, b))
        for a, b in all_pairs(VOCABULARY.num_cells)
    ]
    pairs.sort(key=lambda pair: (-pair.logprob, pair.locations))
    kept: list[FoundPair] = []
    for pair in pairs:
        box = locations_to_box(*pair.locations, VOCABULARY.num_cells)
        others = [locations_to_box(*other.locations, VOCABULARY.num_cells) for other in kept]
        if nms is None or all(box.iou(other) <= nms for other in others):
            kept.append(pair)
    return kept[:k]


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    # few values, so that many pairs tie; of both a peaked and a flat kind
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    num_rows = draw(st.integers(1, 3))
    values = draw(st.sampled_from([[-1.0], [-1.0, -2.0], [-0.25, -1.5, -4.0, -9.0]]))
    return (
        rng.choice(values, (num_rows, 9)).astype(np.float32),
        rng.choice(values, (num_rows, 9, 9)).astype(np.float32),
    )


@given(tables(), st.integers(1, 50), st.sampled_from([None, 0.0, 0.3, 0.5, 1.0]))
def test_the_best_pairs_are_those_of_all_pairs(
    table: tuple[np.ndarray, np.ndarray], k: int, nms: float | None
) -> None:
    firsts, seconds = table
    found = best_pairs(Table(firsts, seconds), len(firsts), VOCABULARY, k=k, nms=nms)
    for row, pairs in enumerate(found):
        assert pairs == brute_force(firsts[row], seconds[row], k, nms)


def test_no_more_cells_are_looked_behind_than_the_bound_asks_for() -> None:
    firsts = np.full((1, 9), -9.0, dtype=np.float32)
    firsts[0, 0] = -0.1
    seconds = np.full((1, 9, 9), -1.0, dtype=np.float32)
    table = Table(firsts, seconds)
    best_pairs(table, 1, VOCABULARY, k=2)
    assert len(table.looks) == 2  # as many as boxes, in the first pass, and none after
    table = Table(firsts, seconds)
    best_pairs(table, 1, VOCABULARY, k=45)
    assert sorted(table.looks) == [(0, cell) for cell in range(9)]


def test_all_pairs_come_and_no_more() -> None:
    firsts, seconds = np.full((1, 9), -1.0, np.float32), np.full((1, 9, 9), -1.0, np.float32)
    (pairs,) = best_pairs(Table(firsts, seconds), 1, VOCABULARY, k=99)
    assert [pair.locations for pair in pairs] == sorted(all_pairs(3))


# --- through a model


@pytest.fixture
def crop(tokenizer: Tokenizer) -> Generator:
    model = make_model(tokenizer.vocabulary.size, seed=7)
    return make_generator(tokenizer, model, geometry="center-crop")


def by_scoring(generator: Generator, doc: Document) -> list[tuple[float, tuple[int, int]]]:
    """Every pair with its log-probability, from the logits of the prompt with it."""
    found = []
    vocabulary = generator.tokenizer.vocabulary
    (*parts, words) = doc.parts
    for a, b in all_pairs(vocabulary.num_cells):
        pair = f"<object><patch_index_{a:04d}><patch_index_{b:04d}>"
        whole = Document([*parts, Text(words.text + pair)])
        log_probs = generator.logits(whole).log_softmax(-1)
        ids = [vocabulary.location_id(a), vocabulary.location_id(b)]
        found.append((float(log_probs[-3, ids[0]] + log_probs[-2, ids[1]]), (a, b)))
    return sorted(found, key=lambda item: (-item[0], item[1]))


@pytest.mark.parametrize("geometry", ["square", "crop"])
def test_boxes_of_a_model_are_those_of_reading_every_pair(generator, crop, pictures, geometry):
    asked = {"square": generator, "crop": crop}[geometry]
    doc = Document([Image(pictures[0]), Text(phrase("a red dog"))])
    expected = by_scoring(asked, doc)
    found = asked.locate(pictures[0], "a red dog", k=12)
    worst = max(abs(a.logprob - b[0]) for a, b in zip(found, expected, strict=False))
    assert worst < TOLERANCE
    known = {pair: logprob for logprob, pair in expected}
    for box in found:
        assert abs(known[box.locations] - box.logprob) < TOLERANCE
        assert box.confidence == pytest.approx(math.exp(box.logprob / 2))
        assert box.image_index == 0
        box.box.checked("box")
        x0, y0, x1, y1 = box.box_px
        assert 0 <= x0 < x1 <= pictures[0].width
        assert 0 <= y0 < y1 <= pictures[0].height
    assert len({box.locations for box in found}) == 12


def test_suppressed_boxes_make_room_for_the_next(generator, pictures):
    every = generator.locate(pictures[1], "a star", k=999)
    assert len(every) == len(all_pairs(4))
    kept: list[Located] = []
    for box in every:
        if all(box.box.iou(other.box) <= 0.2 for other in kept):
            kept.append(box)
    found = generator.locate(pictures[1], "a star", k=4, nms=0.2)
    assert [b.locations for b in found] == [b.locations for b in kept[:4]]


def test_boxes_do_not_depend_on_what_else_is_asked(generator, pictures):
    docs = [
        Document([Image(pictures[0])]),
        Document([Image(pictures[1]), Text("<grounding>it is left of")]),
        Document([Image(pictures[0]), Image(pictures[2])]),
        Document([Image(pictures[0])]),
    ]
    together = generator.locate(docs, "a dog", k=3)
    for doc, found in zip(docs, together, strict=True):
        alone = generator.locate(doc, "a dog", k=3)
        assert [b.locations for b in found] == [b.locations for b in alone]
        for a, b in zip(found, alone, strict=True):
            assert abs(a.logprob - b.logprob) < TOLERANCE
    assert together[2][0].image_index == 1
    assert generator.locate([], "a dog") == []


def test_a_document_may_ask_itself_with_a_phrase_or_an_object(generator, pictures):
    expected = generator.locate(pictures[0], "a dog", k=3)
    asking = phrase("a dog")
    for words in (asking, f"{asking}<object>"):
        assert generator.locate(Document([Image(pictures[0]), Text(words)]), k=3) == expected
    another = f"{asking}<object><patch_index_0000><patch_index_0005></delimiter_of_multi_objects/>"
    found = generator.locate(Document([Image(pictures[0]), Text(another)]), k=3)
    assert [b.logprob for b in found] != [b.logprob for b in expected]


def test_the_likeliest_box_is_what_a_beam_of_all_would_say(generator, pictures):
    (best,) = generator.locate(pictures[0], "a dog", k=1)
    candidates = [f"<patch_index_{a:04d}><patch_index_{b:04d}>" for a, b in all_pairs(4)]
    doc = Document([Image(pictures[0]), Text(phrase("a dog") + "<object>")])
    scores = generator.score(doc, candidates)
    assert best.logprob == pytest.approx(max(score.logprob for score in scores), abs=TOLERANCE)


def test_what_cannot_be_located_is_refused(generator, pictures, tmp_path):
    with pytest.raises(DataError, match="expected an image"):
        generator.locate("<phrase>a dog</phrase>")
    with pytest.raises(DataError, match="ends in </phrase> or <object>"):
        generator.locate(Document([Image(pictures[0]), Text("a dog")]))
    with pytest.raises(DataError, match="document 1"):
        generator.locate([Document([Image(pictures[0])]), "words"], "a dog")
    with pytest.raises(DataError, match="context"):
        generator.locate(pictures[0], "a dog " * 60)
    with pytest.raises(ConfigError, match="k: expected at least 1"):
        generator.locate(pictures[0], "a dog", k=0)
    with pytest.raises(ConfigError, match="nms"):
        generator.locate(pictures[0], "a dog", nms=2.0)
    with pytest.raises(ImageError, match="missing"):
        generator.locate(Image(tmp_path / "missing.png"), "a dog")


def test_a_vocabulary_without_a_grid_locates_nothing(tokenizer, pictures):
    plain = Tokenizer.from_bytes(tokenizer.model_bytes, num_cells=0)
    blind = make_generator(plain, make_model(plain.vocabulary.size, seed=3))
    with pytest.raises(ConfigError, match="num_cells"):
        blind.locate(pictures[0], "a dog")
