"""CIDEr-D equals the official package's numbers."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.evaluate.metrics.cider import Cider

REFERENCES = {
    0: ["a red dog runs", "the dog is red and it runs on the grass"],
    1: ["two cats sit on a mat", "cats on a mat"],
    2: ["a man with a red hat", "the man wears a hat", "hat"],
    3: ["a house"],
}
CANDIDATES = {0: "a red dog", 1: "two cats sit on a mat", 2: "a dog on a mat", 3: ""}


def official(references: dict[int, list[str]], candidates: dict[int, str]) -> list[float]:
    scorer = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    _, scores = scorer.compute_score(references, {key: [c] for key, c in candidates.items()})
    return [float(score) for score in scores]


def test_small_set_has_the_official_scores() -> None:
    cider = Cider(list(REFERENCES.values()))
    found = [cider.score(CANDIDATES[key], REFERENCES[key]) for key in REFERENCES]
    assert found == pytest.approx(official(REFERENCES, CANDIDATES), abs=1e-12)
    assert found == pytest.approx([2.967769, 6.889031, 0.0, 0.0], abs=1e-4)


sentences = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=7).map(" ".join)


@given(st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=3)), min_size=2))
def test_any_set_has_the_official_scores(rows: list[tuple[str, list[str]]]) -> None:
    references = {index: refs for index, (_, refs) in enumerate(rows)}
    if not any(ref.strip() for refs in references.values() for ref in refs):
        return  # the official scorer asserts that some n-gram exists
    candidates = {index: candidate for index, (candidate, _) in enumerate(rows)}
    cider = Cider(list(references.values()))
    found = [cider.score(candidates[key], references[key]) for key in references]
    # measured worst 2e-15; the sums run in another order
    assert found == pytest.approx(official(references, candidates), abs=1e-9)


def test_real_captions_have_the_official_scores(shared_data: Path) -> None:
    path = shared_data / "caption_metrics/val2014_fakecap/golden_dev200.json"
    golden = json.loads(path.read_text())
    rows = golden["per_image"]
    cider = Cider([row["reference_tokens"] for row in rows])
    found = [cider.score(row["result_tokens"], row["reference_tokens"]) for row in rows]
    assert found == pytest.approx([row["CIDEr"] for row in rows], abs=1e-12)
    assert sum(found) / len(found) == pytest.approx(golden["corpus"]["CIDEr"], abs=1e-12)
