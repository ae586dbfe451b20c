"""Hypothesis strategies shared by the property tests."""

import numpy as np
import PIL.Image
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from kosmos.boxes import Box
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.files import Json
from kosmos.image.codec import encode_png
from kosmos.text.locations import locations_to_box
from kosmos.text.markup import Markup, Span

# --- boxes


@st.composite
def boxes(draw: st.DrawFn, *, min_side: float = 1e-3) -> Box:
    """Ordered boxes inside the image."""
    x0, y0 = (draw(st.floats(0.0, 1.0 - min_side)) for _ in range(2))
    x1, y1 = (draw(st.floats(min(low + min_side, 1.0), 1.0)) for low in (x0, y0))
    return Box(x0, y0, x1, y1)


# --- grounding markup

_MARKUP_TOKENS = (
    "<grounding>",
    "<phrase>",
    "</phrase>",
    "<object>",
    "</object>",
    "</delimiter_of_multi_objects/>",
)


def location_pairs(num_cells: int = 32) -> st.SearchStrategy[tuple[int, int]]:
    """Pairs of location indices, in any order."""
    index = st.integers(0, num_cells**2 - 1)
    return st.tuples(index, index)


@st.composite
def markups(draw: st.DrawFn, words: str = "ab c.,<>/\u00e9\n") -> Markup:
    """Markup that the grammar can write: clean text, phrases in order, some without boxes."""
    stretch = st.text(words, max_size=8)
    num_spans = draw(st.integers(0, 4))
    between = draw(st.lists(stretch, min_size=num_spans + 1, max_size=num_spans + 1))
    between[0] = between[0].lstrip()
    between[-1] = between[-1].rstrip()
    text, spans = between[0], []
    for after in between[1:]:
        phrase = draw(stretch.map(str.strip).filter(bool))
        pairs = tuple(draw(st.lists(location_pairs(), max_size=3)))
        found = tuple(locations_to_box(*pair) for pair in pairs)
        spans.append(Span(phrase, len(text), len(text) + len(phrase), found, pairs))
        text += phrase + after
    return Markup(text, tuple(spans), grounding=draw(st.booleans()))


def markup_soup(words: str = "ab .\n", num_locations: int = 1024) -> st.SearchStrategy[str]:
    """Words and grounding tokens in any order, well formed or not; often nearly well formed."""
    location = st.integers(0, num_locations - 1).map(lambda index: f"<patch_index_{index:04d}>")
    pair = st.tuples(location, location).map("".join)
    piece = st.one_of(
        st.text(words, min_size=1, max_size=4),
        st.sampled_from(_MARKUP_TOKENS),
        location,
        pair.map(lambda inside: f"<object>{inside}</object>"),
        st.text(words, min_size=1, max_size=4).map(lambda inside: f"<phrase>{inside}</phrase>"),
        st.tuples(pair, pair).map(
            lambda both: f"<object>{both[0]}</delimiter_of_multi_objects/>{both[1]}</object>"
        ),
    )
    return st.lists(piece, max_size=12).map("".join)


# --- pictures


def pictures(max_side: int = 12) -> st.SearchStrategy[PIL.Image.Image]:
    """Small RGB pictures of any size and content."""
    side = st.integers(1, max_side)
    shapes = st.tuples(side, side, st.just(3))
    return numpy_strategies.arrays(np.uint8, shapes).map(PIL.Image.fromarray)


# --- documents

_ROLES = st.sampled_from(("text", "system", "user", "assistant"))


def json_values() -> st.SearchStrategy[Json]:
    """Anything a JSON file can hold."""
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    leaves = st.none() | st.booleans() | numbers | st.text(max_size=8)
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=6,
    )


def any_boxes() -> st.SearchStrategy[Box]:
    """Boxes with finite corners, inside the image or not, in any order."""
    corner = st.floats(allow_nan=False, allow_infinity=False)
    return st.builds(Box, corner, corner, corner, corner)


def documents() -> st.SearchStrategy[Document]:
    """Documents of every kind of part; images are PNG bytes."""
    images = pictures(max_side=4).map(encode_png)
    part = st.one_of(
        st.builds(Text, st.text(max_size=12), _ROLES, st.booleans()),
        st.builds(Image, images, _ROLES),
        st.builds(
            Grounded, st.text(max_size=8), st.lists(any_boxes(), max_size=3), _ROLES, st.booleans()
        ),
    )
    return st.builds(
        Document,
        st.lists(part, max_size=6),
        id=st.text(max_size=8),
        meta=st.dictionaries(st.text(max_size=6), json_values(), max_size=3),
    )
