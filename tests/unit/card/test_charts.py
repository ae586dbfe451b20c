"""kosmos.card.charts."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.card.charts import _HEIGHT, _TICKS, _TOP, Panel, _axis, draw

values = st.floats(-1e6, 1e6, allow_subnormal=False)


def shapes(panels: list[Panel], kind: str, **options: object) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(draw(panels, title="a", last_step=10_000, **options))  # type: ignore[arg-type]
    return [element for element in root.iter() if element.tag.endswith("}" + kind)]


@given(points=st.lists(values, min_size=1, max_size=20), from_zero=st.booleans())
def test_an_axis_holds_every_value_between_round_ticks(
    points: list[float], from_zero: bool
) -> None:
    panel = Panel(title="", points=list(enumerate(points)), from_zero=from_zero)  # type: ignore[arg-type]
    low, high, ticks = _axis(panel)
    room = 1e-9 * max(1.0, abs(low), abs(high))
    assert low - room <= min(points)
    assert max(points) <= high + room
    assert (ticks[0], ticks[-1]) == (low, pytest.approx(high))
    assert 2 <= len(ticks) <= _TICKS + 2
    assert not from_zero or low <= 0 <= high


def test_a_spike_of_one_step_in_a_long_run_is_drawn() -> None:
    points = [(float(step), 9.0 if step == 7003 else 1.0) for step in range(1, 10_001)]
    (band,) = shapes([Panel(title="loss", points=points)], "polygon")
    corners = [tuple(map(float, place.split(","))) for place in band.attrib["points"].split()]
    high = min(y for _, y in corners)
    assert high < _TOP + 0.2 * (_HEIGHT - _TOP)
    assert len(corners) < 600  # two for each column


def test_what_is_not_noisy_is_drawn_as_it_is() -> None:
    points = [(float(step), step % 2) for step in range(1, 101)]
    noisy, exact = (
        shapes([Panel(title="rate", points=points, is_noisy=is_noisy)], "polyline")
        for is_noisy in (True, False)
    )
    assert exact[-1].attrib["points"] == exact[-2].attrib["points"]
    assert noisy[-1].attrib["points"] != noisy[-2].attrib["points"]


def test_titles_are_escaped_and_a_reader_without_sight_is_told_the_ends() -> None:
    panel = Panel(title="a<b & c", points=[(1.0, 2.0), (2.0, 1.5)], note="x>y")
    said = [title.text for title in shapes([panel], "title")]
    assert said == ["a", "a<b & c: from 2 to 1.5; x>y"]


def test_panels_without_points_are_left_out_and_one_point_is_a_dot() -> None:
    panels = [Panel(title="none", points=[]), Panel(title="one", points=[(1.0, 3.0)])]
    assert [text.text for text in shapes(panels, "text")].count("one") == 1
    assert "none" not in [text.text for text in shapes(panels, "text")]
    assert len(shapes(panels, "circle")) == 2  # of the step, and of its mean


def test_the_key_names_what_is_drawn_and_nothing_else() -> None:
    plain = Panel(title="p", points=[(1.0, 3.0), (2.0, 2.0)])
    full = Panel(title="p", points=plain.points, dots=[(2.0, 2.5)], baseline=4.0, marks=[1.0])

    def named(panel: Panel) -> set[str | None]:
        return {text.text for text in shapes([panel], "text", has_key=True)}

    assert {"held out", "unigram, held out", "an event, see below"} <= named(full) - named(plain)
    assert {"a step", "running mean"} <= named(plain)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_key_lies_inside_the_sheet_and_above_the_panels(count: int) -> None:
    points = [(1.0, 3.0), (2.0, 2.0)]
    panel = Panel(title="text", points=points, dots=points, baseline=4.0, marks=[1.0])
    root = ElementTree.fromstring(draw([panel] * count, title="a", last_step=2, has_key=True))
    texts = {e.text: e for e in root.iter() if e.tag.endswith("}text") and e.text is not None}
    words = ["a step", "running mean", "held out", "unigram, held out", "an event, see below"]
    width, above = (
        float(root.attrib["width"]),
        float(root.attrib["height"]) - _HEIGHT * -(-count // 3),
    )
    for word in words:
        # letters of this font are at most two thirds of their size wide, on average
        end = float(texts[word].attrib["x"]) + 11.0 * 0.6 * len(word)
        assert end < width
        assert float(texts[word].attrib["y"]) < above
