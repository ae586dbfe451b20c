"""What the benchmarks read: photographs, texts, names, questions; all made here if none are given.

Photographs are new in every round, and so are their bytes: a picture that was encoded before
would cost nothing the second time, and the peer has no such memory.
"""

import io
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFilter

from kosmos.errors import DataError
from kosmos.files import read_json, read_jsonl
from kosmos.microcosm import documents
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.render import render
from kosmos.microcosm.world import COLORS, SHAPES, TEXTURES, sample_scene
from kosmos.runtime import generator
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.vocabulary import DELIMITER, location_token

PHOTO_SIZE = (500, 375)
QUALITY = 90
SUFFIXES = {".jpg", ".jpeg", ".png"}


class Photos:
    """Photographs on disk, different ones in every round.

    Args:
        folder: Photographs to start from; None draws scenes of the microcosm.
        work: Where the JPEG files go.
    """

    def __init__(self, folder: Path | None, work: Path) -> None:
        self._sources: list[Path | None] = [None]
        if folder is not None:
            self._sources = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
            if not self._sources:
                raise DataError(f"{folder}: expected photographs, found none")
        self._name = "drawn" if folder is None else folder.name
        self._work = work / "photos"

    def take(self, turn: int, count: int) -> list[Path]:
        """Paths of some photographs; no two rounds share one."""
        folder = self._work / f"{self._name}-{turn}"
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{index:03}.jpg" for index in range(count)]
        for index, path in enumerate(paths):
            if not path.exists():
                path.write_bytes(self._photo(turn, index))
        return paths

    def _photo(self, turn: int, index: int) -> bytes:
        source = self._sources[index % len(self._sources)]
        picture = _drawn(turn, index) if source is None else _fitted(source)
        # a corner of its own for every round: other bytes and other pixels, the same work
        picture.putpixel((0, 0), (turn % 256, index % 256, index // len(self._sources) % 256))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=QUALITY, comment=f"{turn}/{index}".encode())
        return file.getvalue()


def _drawn(turn: int, index: int) -> PIL.Image.Image:
    """A scene with the grain of a photograph, so that its JPEG is as large as one."""
    config = MicrocosmConfig(image_size=max(PHOTO_SIZE), max_objects=6, small=(0.1, 0.2))
    scene = sample_scene(config, Dice(config.seed, "benchmark", turn, index))
    square = np.asarray(render(scene, config))[: PHOTO_SIZE[1], : PHOTO_SIZE[0]]
    grain = generator(0, "grain", turn, index).normal(0, 6, square.shape)
    noisy = np.clip(square + grain, 0, 255).astype(np.uint8)
    return PIL.Image.fromarray(noisy).filter(PIL.ImageFilter.GaussianBlur(0.6))


def _fitted(path: Path) -> PIL.Image.Image:
    with PIL.Image.open(path) as picture:
        return picture.convert("RGB").resize(PHOTO_SIZE)


@lru_cache
def sentences(count: int, *, seed: int = 0) -> list[str]:
    """Lines about the microcosm's world, the first part of each a caption's length or a page's."""
    config = MicrocosmConfig(seed=seed)
    lines: list[str] = []
    index = 0
    while len(lines) < count:
        lines += documents.text(config, "benchmark", index).text.splitlines()
        index += 1
    return lines[:count]


def captions(file: Path | None, turn: int, count: int) -> list[str]:
    """Texts to tokenize: half of them plain, half with phrases and boxes, as in a corpus.

    Others in every round: an engine that remembers words may meet them again, as in any text, and
    not the whole text.

    Args:
        file: Lines to take them from; None draws them in the microcosm, whose words are few.
        turn: The round.
        count: How many.
    """
    rng = generator(0, "captions", turn)
    if file is None:
        plain = sentences(count, seed=turn)
    else:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if line and "<" not in line]
        plain = [lines[(turn * count + index) % len(lines)] for index in range(count)]
    found = []
    for index, line in enumerate(plain):
        if index % 2 == 0:
            found.append(line)
            continue
        words = line.split()
        middle = len(words) // 2
        first, second = sorted(int(cell) for cell in rng.integers(0, 1024, 2))
        pair = f"<object>{location_token(first)}{location_token(second)}</object>"
        phrase = " ".join(words[:middle]) or "it"
        found.append(f"<grounding><phrase>{phrase}</phrase>{pair} {' '.join(words[middle:])}")
    return found


_BETWEEN = (
    " standing next to",
    " in front of",
    " looking at",
    ", and",
    " warming up beside",
    " on",
)


def grounded_markup(count: int) -> str:
    """A detailed description with this many entities; every fourth has two boxes."""
    rng = generator(0, "entities")
    said = "<grounding>An image of"
    for index in range(count):
        boxes = []
        for _ in range(2 if index % 4 == 3 else 1):
            rows, columns = np.sort(rng.choice(32, (2, 2), replace=False), axis=1)
            boxes.append(
                location_token(int(rows[0]) * 32 + int(columns[0]))
                + location_token(int(rows[1]) * 32 + int(columns[1]))
            )
        color, shape = list(COLORS)[index % len(COLORS)], SHAPES[index % len(SHAPES)]
        inside = DELIMITER.join(boxes)
        said += f"<phrase> a {color} {shape}</phrase><object>{inside}</object>"
        said += _BETWEEN[index % len(_BETWEEN)] if index + 1 < count else "."
    return said


def class_names(file: Path | None, count: int) -> list[str]:
    """Different names: from a JSON list, or put together from words of the microcosm."""
    if file is not None:
        names = read_json(file)
        if not isinstance(names, list):
            raise DataError(f"{file}: expected a list of names, found {type(names).__name__}")
        return list(dict.fromkeys(str(name) for name in names))[:count]
    made = (
        f"{texture} {color} {shape} {end}"
        for color in COLORS
        for shape in SHAPES
        for texture in TEXTURES
        for end in ("", "of wood", "of glass")
    )
    return [name.strip() for name in made][:count]


QUESTIONS = (
    "What color is the circle?",
    "How many things are there in the picture?",
    "Is there a star in the picture?",
    "What shape is the large thing on the left?",
    "Where is the heart?",
    "What is behind the square?",
    "Is the triangle red or blue?",
    "What animal is on the right?",
    "What pattern does the ring have?",
    "Is anything above the diamond?",
)


def rows_of_choices(file: Path | None, count: int) -> list[tuple[str, list[str]]]:
    """Contexts with four endings: HellaSwag's shape, about a hundred tokens and twenty.

    Args:
        file: JSON Lines with ``ctx`` and ``endings``; None makes rows of the microcosm's texts.
        count: Most rows.
    """
    if file is not None:
        rows = []
        for row in read_jsonl(file):
            if not isinstance(row, dict) or not isinstance(row.get("endings"), list):
                raise DataError(f"{file}: expected rows with ctx and endings, found {row!r:.60}")
            endings = [f" {str(ending).strip()}" for ending in row["endings"]]  # type: ignore[union-attr]
            rows.append((str(row["ctx"]).strip(), endings))
        return rows[:count]
    rng = generator(0, "choices")
    lines = [line for line in sentences(4000) if len(line.split()) >= 5]
    rows = []
    for _ in range(count):
        picked = [lines[int(index)] for index in rng.integers(0, len(lines), 24)]
        words = " ".join(picked).split()
        size = int(rng.integers(60, 100))
        endings = [" " + " ".join(picked[-1 - n].split()[: 6 + 3 * n]) for n in range(4)]
        rows.append((" ".join(words[:size]), endings))
    return rows


def as_jsonl(rows: list[dict[str, object]]) -> str:
    """What the peer's user writes by hand."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def prompt_of(tokenizer: Tokenizer, num_tokens: int, turn: int = 0) -> str:
    """Words of about this many tokens, others in every round."""
    words = " ".join(sentences(64 * (turn + 2))[64 * (turn + 1) :]).split()
    count = 1
    while count < len(words) and len(tokenizer.encode(" ".join(words[:count]))) < num_tokens:
        count += 1
    return " ".join(words[:count])
