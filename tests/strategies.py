"""Hypothesis strategies shared by the property tests."""

from hypothesis import strategies as st

from kosmos.boxes import Box

# --- boxes


@st.composite
def boxes(draw: st.DrawFn, *, min_side: float = 1e-3) -> Box:
    """Ordered boxes inside the image."""
    x0, y0 = (draw(st.floats(0.0, 1.0 - min_side, width=32)) for _ in range(2))
    x1 = draw(st.floats(x0 + min_side, 1.0)) if x0 + min_side < 1.0 else 1.0
    y1 = draw(st.floats(y0 + min_side, 1.0)) if y0 + min_side < 1.0 else 1.0
    return Box(x0, y0, x1, y1)
