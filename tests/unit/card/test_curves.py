"""kosmos.card.curves."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.card.curves import quantile, read_curves, read_run, running_mean
from kosmos.files import write_jsonl


def test_curves_are_what_the_records_say_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    step = {"kind": "train", "tokens": 9, "wall_s": 1, "num_tokens": 5, "num_loss_tokens": 4.0}
    write_jsonl(
        file,
        [
            {**step, "step": 1, "losses": {"a": 3.0, "b": 2.0}, "step_s": 0.5, "flops": 7},
            {**step, "step": 2, "losses": {}, "step_s": 0.25, "utilisation": None},  # not finite
            {"kind": "heldout", "step": 2, "losses": {"a": 2.5}, "unigram": {"a": 4.0}},
        ],
    )
    with open(file, "a", encoding="utf-8") as lines:
        lines.write('{"kind": "train", "st')
    curves = read_run(file)
    assert list(curves.streams) == ["a", "b"]
    assert curves.streams["a"].train == [(1.0, 3.0)]
    assert curves.streams["a"].heldout == [(2.0, 2.5)]
    assert (curves.streams["a"].unigram, curves.streams["b"].unigram) == (4.0, None)
    assert curves.quantities == {"step_s": [(1.0, 0.5), (2.0, 0.25)]}
    assert (curves.num_tokens, curves.num_loss_tokens, curves.flops) == (10, 8.0, 7)
    assert curves.last["step"] == 2
    assert read_curves(file) == curves.streams
    assert read_run(tmp_path / "nothing.jsonl").last == {}


@given(st.lists(st.floats(-1e3, 1e3), max_size=30), st.integers(1, 12))
def test_a_running_mean_is_that_of_the_window(values: list[float], window: int) -> None:
    points = [(float(place), value) for place, value in enumerate(values)]
    expected = [
        math.fsum(values[max(0, i + 1 - window) : i + 1]) / min(window, i + 1)
        for i in range(len(values))
    ]
    found = running_mean(points, window)
    assert [step for step, _ in found] == [step for step, _ in points]
    assert [value for _, value in found] == pytest.approx(expected, abs=1e-9)


def test_quantiles_are_values_that_occurred() -> None:
    points = [(float(n), float(value)) for n, value in enumerate([5, 1, 4, 2, 3])]
    assert [quantile(points, share) for share in (0.0, 0.5, 0.9, 1.0)] == [1.0, 3.0, 5.0, 5.0]
