"""Words are painted in letters or spelled out, never as squares."""

import logging
from pathlib import Path

import numpy as np
import PIL.features
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.image import fonts
from kosmos.image.canvas import words_width
from kosmos.image.draw import draw_boxes
from kosmos.image.fonts import Face, face_for, system_fonts


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without fonts of its own."""
    fonts._choose.cache_clear()
    monkeypatch.setattr(fonts, "system_fonts", tuple)
    yield
    fonts._choose.cache_clear()


def has_glyph(face: Face, character: str) -> bool:
    """Whether a character is painted otherwise than what no font has."""
    font = fonts._load(face.file, 20, shaping=False)
    return bytes(font.getmask(character)) != bytes(font.getmask(fonts._NOBODY))


def painted(label: str) -> np.ndarray:
    image = PIL.Image.new("RGB", (500, 400), "#808080")
    return np.asarray(draw_boxes(image, [(Box(0.1, 0.3, 0.9, 0.9), label, "#ffffff")]))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_what_pillows_own_font_has_is_painted_in_it_everywhere(words: str) -> None:
    face = face_for(words)
    assert face == Face(None)
    assert face.painted(words) == words


@pytest.mark.parametrize("words", ["café", "naïve Größe", "Привет, мир", "Ωμέγα", "Ærø"])
def test_letters_that_pillow_lacks_are_those_of_a_font_that_is_here(words: str) -> None:
    face = face_for(words)
    if face.file is None:
        pytest.skip("no font with these letters is installed")
    assert face.painted(words) == words
    assert all(has_glyph(face, c) for c in words if not c.isspace())
    assert words_width(words, 10) > 0.8 * words_width("n" * (len(words) - 2), 10)


@pytest.mark.usefixtures("no_fonts")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("café", "cafe"),
        ("cafe\u0301", "cafe"),
        ("\u201cno\u201d \u2013 2\u00d73", '"no" - 2x3'),
        ("x\u0323\u035c हि", r"x \u0939\u093f"),
        ("Привет", r"\u041f\u0440\u0438\u0432\u0435\u0442"),
        ("a 狗", r"a \u72d7"),
        ("🐶", r"\U0001f436"),
    ],
)
def test_what_no_font_has_is_spelled_out_and_told(
    words: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="kosmos.image.fonts"):
        face = face_for(words)
    assert face.file is None
    assert face.painted(words) == expected
    assert words_width(words, 10) == words_width(expected, 10)
    for character in face.lacking:
        assert f"no font here has {''.join(sorted(face.lacking))}" in caplog.text, character
    assert np.array_equal(painted(words), painted(expected))


@pytest.mark.parametrize(
    "words", ["红色的狗", "हिन्दी घर", "بيت أحمر", "한국어", "日本語", "🐶 dog", "ไทย"]
)
def test_no_script_is_painted_as_squares(words: str) -> None:
    face = face_for(words)
    shown = face.painted(words)
    assert all(has_glyph(face, c) for c in shown if not c.isspace())
    # what is spelled out is what the font lacks, and no more
    assert [c for c in words if c not in face.lacking and c not in shown] == []


def test_scripts_whose_letters_join_are_spelled_out_where_nothing_joins_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fonts._choose.cache_clear()
    monkeypatch.setattr(PIL.features, "check", lambda name: False)
    assert face_for("بيت").painted("بيت") == r"\u0628\u064a\u062a"
    fonts._choose.cache_clear()


def test_files_that_are_no_fonts_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fonts._choose.cache_clear()
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts, "system_fonts", lambda: (tmp_path / "broken.ttf",))
    assert face_for("é狗") == Face(None, frozenset("é狗"))
    fonts._choose.cache_clear()


def test_plain_fonts_come_first() -> None:
    names = ["DejaVuSans-Bold", "DejaVuSerif", "Zapf", "DejaVuSansMono", "DejaVuSans"]
    ordered = sorted((Path(f"/f/{name}.ttf") for name in names), key=fonts._order)
    assert [file.stem for file in ordered[:2]] == ["DejaVuSans", "Zapf"]
    assert all(file.suffix in (".ttf", ".ttc", ".otf") for file in system_fonts())
