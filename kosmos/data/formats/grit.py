"""GRIT: captions whose phrases are linked to boxes by a detector, into documents.

A row, as JSON Lines with a field ``file``, or as the ``.json`` beside a picture in a tar::

    {"caption": "a wire hanger with a paper cover", "width": 1024, "height": 693,
     "noun_chunks": [[0, 13, x0, y0, x1, y1, score], ...],
     "ref_exps":    [[0, 32, x0, y0, x1, y1, score], ...]}

Spans are characters of the caption, the end exclusive; boxes are fractions. What is done with
them, in the order of the released loader: boxes scored low are left out, then those that a center
crop would hide, then (mode ``expression``) spans inside another span. Departure: where spans of
what remains overlap or are nested, the longer one stays; the release writes a phrase that does not
close, or loses the inner one without saying so.

Source: KOSMOS-2 (arXiv:2306.14824) section 2.1; unilm kosmos-2/unilm/data/vl/laion2b_obj_loader.py.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kosmos.boxes import Box
from kosmos.data.formats.config import ImportConfig
from kosmos.data.formats.pictures import PictureFolder, check_picture
from kosmos.data.formats.records import read_rows, read_samples, sample_fields, source_files
from kosmos.data.formats.tally import Tally
from kosmos.document.types import Document, Grounded, Image, Part, Text
from kosmos.files import Json
from kosmos.image.transform import ImageTransform


class Phrase(NamedTuple):
    """A span of a caption and where it is."""

    start: int
    end: int
    boxes: tuple[Box, ...]


def read_grit(source: Path, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """Grounded captions; a row without a usable phrase stays, as a plain caption."""
    for where, fields, picture in _rows(source, config, tally):
        caption = fields.get("caption")
        if not isinstance(caption, str) or not caption.strip():
            tally.bad("no caption", where)
            continue
        if picture is None:
            tally.leave_out("no file of the picture", where)
            continue
        decoded = check_picture(picture, config)
        if isinstance(decoded, str):
            tally.bad(decoded, where)
            continue
        phrases = grit_phrases(fields, caption, decoded.size, config, tally, where)
        if phrases is None:
            continue
        if not phrases:
            tally.change("no phrase with a box", where)
        name = picture.name if isinstance(picture, Path) else where
        tally.keep()
        parts = [Image(picture), *grounded_parts(caption, phrases)]
        yield Document(parts, id=str(fields.get("id", where)), meta={"source": name})


def grit_phrases(
    fields: dict[str, Json],
    caption: str,
    size: tuple[int, int],
    config: ImportConfig,
    tally: Tally,
    where: str,
) -> list[Phrase] | None:
    """The phrases of a row that become targets, in reading order.

    Args:
        fields: The row.
        caption: Its caption.
        size: Width and height of the picture in pixels.
        config: Mode, threshold and crop.
        tally: Takes what is left out.
        where: What the row is called.

    Returns:
        Phrases that do not overlap; None (counted) if the spans are not as the format says.
    """
    column = "noun_chunks" if config.grit_mode == "phrase" else "ref_exps"
    tuples = fields.get(column)
    if not isinstance(tuples, list):
        tally.bad(f"no {column}", where)
        return None
    transform = ImageTransform(config.image)
    boxes_of: dict[tuple[int, int], list[Box]] = {}
    for item in tuples:
        parsed = _parse(item, len(caption))
        if parsed is None:
            tally.bad("span that is not [start, end, x0, y0, x1, y1, score]", f"{where}: {item}")
            return None
        start, end, box, score = parsed
        tally.see_box(box, size=size, phrase=caption[start:end])
        box = box.clipped()
        if score < config.min_score:
            tally.change(f"box scored under {config.min_score}", where)
        elif not (box.x0 < box.x1 and box.y0 < box.y1):
            tally.change("box without area in the picture", where)
        elif transform.box_in(box, width=size[0], height=size[1]) is None:
            tally.change("box outside the center crop", where)
        else:
            boxes_of.setdefault((start, end), []).append(box)
    spans = list(boxes_of)
    if config.grit_mode == "expression":
        spans = [span for span in spans if not any(_contains(other, span) for other in spans)]
    kept = _without_overlaps(spans)
    for _ in range(len(spans) - len(kept)):
        tally.change("phrase that overlaps another", where)
    return [Phrase(start, end, tuple(boxes_of[start, end])) for start, end in kept]


def grounded_parts(caption: str, phrases: list[Phrase]) -> list[Part]:
    """The caption cut at its phrases."""
    parts: list[Part] = []
    cursor = 0
    for phrase in phrases:
        if phrase.start > cursor:
            parts.append(Text(caption[cursor : phrase.start]))
        parts.append(Grounded(caption[phrase.start : phrase.end], phrase.boxes))
        cursor = phrase.end
    if cursor < len(caption):
        parts.append(Text(caption[cursor:]))
    return parts


def _rows(
    source: Path, config: ImportConfig, tally: Tally
) -> Iterator[tuple[str, dict[str, Json], Path | bytes | None]]:
    """Name, fields and picture of each row of JSON Lines files or tars."""
    for path in source_files(source, frozenset({".jsonl", ".tar"})):
        if path.suffix == ".tar":
            for sample in read_samples(path, tally):
                fields = sample_fields(sample, tally)
                if fields is not None:
                    yield sample.where, fields, sample.picture
            continue
        folder = PictureFolder(path, config)
        for row in read_rows(path, tally, suffixes=frozenset({".jsonl"})):
            name = row.fields.get("file", f"{row.fields.get('key', row.fields.get('id'))}.jpg")
            yield row.where, row.fields, folder.find(str(name))


def _parse(item: Json, num_chars: int) -> tuple[int, int, Box, float] | None:
    if not isinstance(item, list) or len(item) != 7:
        return None
    numbers = [float(v) for v in item if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) != 7 or not all(map(math.isfinite, numbers)):
        return None
    # some copies store the whole tuple as floats
    start, end = int(numbers[0]), int(numbers[1])
    if not 0 <= start < end <= num_chars:
        return None
    return start, end, Box(*numbers[2:6]), numbers[6]


def _contains(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer != inner and outer[0] <= inner[0] and inner[1] <= outer[1]


def _without_overlaps(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest spans that do not overlap, the first of equals; in reading order."""
    kept: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        if all(end <= other_start or other_end <= start for other_start, other_end in kept):
            kept.append((start, end))
    return sorted(kept)
