r"""Fonts in which words are painted: Pillow's own, and where it lacks a letter one that is here.

Pillow's own font is the same on every machine and knows little beyond ASCII. Words that it has are
painted in it; for others the fonts of the system are looked through, once. What none of them has is
written as an escape, ``\u4f60``, and told in the log: a square would say nothing.

- :func:`face_for`, :class:`Face`: the font for some words, and how they are written in it
"""

import functools
import logging
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import PIL.features
import PIL.ImageFont

_log = logging.getLogger(__name__)

Font: TypeAlias = PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont

_NEAREST = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014\u2212\u2022\u00d7", "''\"\"---*x")
"""Quotes, dashes and the like that Pillow's font lacks, or that few fonts have."""
_NOBODY = "\U0010fffe"  # no character, so a font shows for it what it shows for what it lacks
_PROBE_PX = 20
_USUAL = ("notosans", "dejavusans", "liberationsans", "arial", "helvetica", "segoeui", "droidsans")
_UNUSUAL = (
    "bold",
    "italic",
    "oblique",
    "mono",
    "serif",
    "cond",
    "narrow",
    "light",
    "thin",
    "black",
)


@dataclass(frozen=True, slots=True)
class Face:
    """A font, and the characters of some words that it lacks."""

    file: Path | None
    """None: Pillow's own."""
    lacking: frozenset[str] = frozenset()

    def at(self, size: float) -> Font:
        """The font in a size."""
        return _load(self.file, size)

    def painted(self, text: str) -> str:
        """Words as they are written in this font.

        Args:
            text: Made of characters of the words that the font was chosen for.
        """
        text = _plain(text)
        if not self.lacking:
            return text
        return "".join(_spelled(c) if c in self.lacking else c for c in text)


def face_for(text: str) -> Face:
    """The font for some words: Pillow's own if it has them, else that here which has most of them.

    Args:
        text: Whose every part is to be painted in it.
    """
    return _choose(frozenset(_plain(text)))


@functools.lru_cache(maxsize=1024)
def _choose(characters: frozenset[str]) -> Face:
    wanted = {c for c in characters if not c.isspace()}
    best = Face(None, _lacking(None, wanted))
    for file in system_fonts() if best.lacking else ():
        lacking = _lacking(file, wanted)
        if len(lacking) < len(best.lacking):
            best = Face(file, lacking)
        if not lacking:
            break
    if best.lacking:
        letters = "".join(sorted(best.lacking))
        _log.warning(
            "no font here has %s: written as %s; on Debian fonts-noto-core and fonts-noto-cjk do",
            letters,
            "".join(map(_spelled, letters)),
        )
    return best


def _plain(text: str) -> str:
    """The same words in the fewest and most usual characters."""
    return text if text.isascii() else unicodedata.normalize("NFC", text).translate(_NEAREST)


def _spelled(character: str) -> str:
    """A character for a font that lacks it: its letter without marks, or its number."""
    if "\u0300" <= character < "\u0370":  # an accent that stands alone
        return ""
    bare = unicodedata.normalize("NFKD", character)
    letters = "".join(c for c in bare if not unicodedata.combining(c))
    return (
        letters
        if letters and letters.isascii()
        else character.encode("unicode_escape").decode("ascii")
    )


def _lacking(file: Path | None, characters: Iterable[str]) -> frozenset[str]:
    try:
        font = _load(file, _PROBE_PX, shaping=False)  # which would put a mark on a dotted circle
        nothing = _shape(font, _NOBODY)
        has_shaping = file is not None and PIL.features.check("raqm")
        return frozenset(
            c
            for c in characters
            if not (c.isascii() and c.isprintable())
            and (_shape(font, c) == nothing or (_is_shaped(c) and not has_shaping))
        )
    except (OSError, ValueError):  # no font, or one of colored pictures
        return frozenset(characters)


def _shape(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def _is_shaped(character: str) -> bool:
    """Whether its form depends on its neighbors, or it runs from right to left."""
    is_mark = unicodedata.category(character) in ("Mn", "Mc")
    is_joined = "\u0900" <= character < "\u1200" or "\u1780" <= character < "\u1800"
    return is_mark or is_joined or unicodedata.bidirectional(character) in ("R", "AL")


@functools.lru_cache(maxsize=64)  # reading a font takes longer than using it
def _load(file: Path | None, size: float, *, shaping: bool = True) -> Font:
    if file is None:
        return PIL.ImageFont.load_default(size)
    engine = None if shaping else PIL.ImageFont.Layout.BASIC
    return PIL.ImageFont.truetype(str(file), size, layout_engine=engine)


@functools.cache
def system_fonts() -> tuple[Path, ...]:
    """Files of fonts of this machine, plain ones without serifs first."""
    found = {
        file
        for folder in _folders()
        for pattern in ("*.ttf", "*.ttc", "*.otf")
        for file in folder.rglob(pattern)
    }
    return tuple(sorted(found, key=_order))


def _order(file: Path) -> tuple[bool, bool, int, str]:
    name = "".join(c for c in file.stem.casefold() if c.isalnum())
    is_unusual = any(word in name.replace("sansserif", "") for word in _UNUSUAL)
    return is_unusual, not name.startswith(_USUAL), len(name), str(file)


def _folders() -> Iterator[Path]:
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"
        return
    home = Path.home()
    if sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
        return
    shares = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    yield from (home / ".fonts", home / ".local/share/fonts")
    yield from (Path(share) / "fonts" for share in shares.split(":"))
