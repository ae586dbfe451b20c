"""GRIT: captions whose phrases are linked to boxes by a detector, into documents.

A row, as JSON Lines or Parquet with a field ``file`` or ``key``, as the ``.json`` beside a picture
in a tar, or as a line of the release's TSV (tsv.py)::

    {"caption": "a wire hanger with a paper cover", "width": 1024, "height": 693, "key": "000042",
     "noun_chunks": [[0, 13, x0, y0, x1, y1, score], ...],
     "ref_exps":    [[0, 32, x0, y0, x1, y1, score], ...]}

Spans are characters of the caption, the end exclusive, and may be stored as floats; boxes are
fractions. The picture is in the row (a column of bytes, the tar, the TSV), or a file named ``file``
or by ``key``, or what img2dataset's tars and Parquet files hold under that key.

What is done with them, in the order of the released loader:

1. boxes scored under ``min_score`` are left out, and those that are none: reversed, without area;
2. so are those of which a center crop leaves less than ``image.min_visible``;
3. in mode ``expression``, spans inside another span go;
4. boxes of equal spans become one phrase, in their order;
5. a share of the rows, ``1 - grounded_share``, goes on as plain captions, as do rows without a
   phrase; of TSV rows without a column of boxes, ``unannotated_share`` does.

Departure: where spans of what remains overlap or are nested, the longer one stays; the release
writes a phrase that does not close, or loses the inner one without saying so.

Source: KOSMOS-2 (arXiv:2306.14824) section 2.1; unilm kosmos-2/unilm/data/vl/laion2b_obj_loader.py.
"""

from collections.abc import Iterator
from typing import NamedTuple

from kosmos.boxes import Box
from kosmos.corpus.formats.captioned import captioned_rows, held_picture
from kosmos.corpus.formats.config import GritCaptionsConfig, GritConfig
from kosmos.corpus.formats.frame import OTHER_SIZE, TURNED, Frame, numbers, whole_number
from kosmos.corpus.formats.pictures import Missing, Picture, PictureFolder, usable
from kosmos.corpus.formats.records import Row, source_files, text_field
from kosmos.corpus.formats.tally import Tally
from kosmos.corpus.formats.tsv import read_objects
from kosmos.document.types import Document, Grounded, Image, Part, Text
from kosmos.files import Json
from kosmos.image.transform import ImageTransform
from kosmos.remote import AnyPath
from kosmos.runtime import generator

_SUFFIXES = frozenset({".jsonl", ".tar", ".tsv", ".parquet"})


class Phrase(NamedTuple):
    """A span of a caption and where it is."""

    start: int
    end: int
    boxes: tuple[Box, ...]


class GritSample(NamedTuple):
    """A row that can be used."""

    id: str
    caption: str
    picture: Picture
    phrases: list[Phrase]
    """What is left of its spans, in reading order."""


def read_grit(source: AnyPath, config: GritCaptionsConfig, tally: Tally) -> Iterator[Document]:
    """Grounded captions; a row without a usable phrase stays, as a plain caption."""
    for sample in grit_samples(source, config, tally):
        phrases = [span for span in sample.phrases if sample.caption[span.start : span.end].strip()]
        for _ in range(len(sample.phrases) - len(phrases)):
            tally.change("phrase without words", sample.id)
        if not phrases:
            tally.change("no phrase with a box", sample.id)
        elif not _chance(config, "grounded", sample.id, config.grounded_share):
            tally.change("phrases left out, by the share that is grounded", sample.id)
            phrases = []
        tally.keep()
        parts = [Image(sample.picture.source), *grounded_parts(sample.caption, phrases)]
        yield Document(parts, id=sample.id, meta={"source": sample.picture.name})


def grit_samples(source: AnyPath, config: GritConfig, tally: Tally) -> Iterator[GritSample]:
    """Rows with a caption and a picture, and their phrases after all filters."""
    for row, picture in _rows(source, config, tally):
        where, fields = row.where, row.fields
        caption = fields.get("caption")
        if not isinstance(caption, str) or not caption.strip():
            tally.bad("no caption", where)
            continue
        found = usable(picture, config, tally, where)
        if found is None:
            continue
        phrases = _phrases(fields, caption, found, config, tally, where)
        if isinstance(phrases, str):
            tally.bad(phrases, where)
        else:
            number = whole_number(fields.get("id"))
            row_id = text_field(fields, "id") if number is None else str(number)
            yield GritSample(row_id or where, caption, found, phrases)


def _phrases(
    fields: dict[str, Json],
    caption: str,
    picture: Picture,
    config: GritConfig,
    tally: Tally,
    where: str,
) -> list[Phrase] | str:
    """The phrases that become targets, in reading order; or in few words what is wrong."""
    column = "noun_chunks" if config.grit_mode == "phrase" else "ref_exps"
    tuples = fields.get(column)
    if not isinstance(tuples, list):
        return f"no {column}"
    frame = Frame.stated(fields, picture)
    if frame is None:
        return OTHER_SIZE
    transform, (width, height) = ImageTransform(config.image), picture.size
    boxes_of: dict[tuple[int, int], list[Box]] = {}
    for item in tuples:
        parsed = _parse(item, len(caption))
        if parsed is None:
            return "span that is not [start, end, x0, y0, x1, y1, score]"
        start, end, detected, score = parsed
        tally.see_box(detected, size=frame.size, phrase=caption[start:end])
        box = frame.upright(detected.clipped())
        if score < config.min_score:
            tally.change(f"box scored under {config.min_score}", where)
        elif detected.x0 > detected.x1 or detected.y0 > detected.y1:
            tally.change("box with reversed corners", where)
        elif not (box.x0 < box.x1 and box.y0 < box.y1):
            tally.change("box without area in the picture", where)
        elif transform.box_in(box, width=width, height=height) is None:
            tally.change("box outside the center crop", where)
        else:
            boxes_of.setdefault((start, end), []).append(box)
    if boxes_of and frame.orientation != 1:
        tally.change(TURNED, where)
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
    source: AnyPath, config: GritConfig, tally: Tally
) -> Iterator[tuple[Row, Picture | Missing]]:
    """Rows of files of any container, with their pictures."""
    for file in source_files(source, _SUFFIXES, tally):
        folder = PictureFolder(file.path, config, tally)
        is_tsv = file.path.suffix.lower() == ".tsv"
        for row in captioned_rows(file, _SUFFIXES, config, tally):
            if is_tsv and not _has_objects(row, config, tally):
                continue
            picture = held_picture(row, folder.excluded)
            if isinstance(picture, Missing) and picture.is_none and not is_tsv:
                picture = _named_picture(row, folder)
            yield row, picture


def _named_picture(row: Row, folder: PictureFolder) -> Picture | Missing:
    """The picture that a row names by its file, or by its key."""
    name = text_field(row.fields, "file")
    if name is not None:
        return folder.find(name)
    key = text_field(row.fields, "key", "id") or whole_number(row.fields.get("id"))
    return Missing(row.where) if key is None else folder.find_key(str(key))


def _has_objects(row: Row, config: GritConfig, tally: Tally) -> bool:
    """Whether a row of TSV goes on; its last column becomes columns of GRIT."""
    given = row.fields.pop("objects")
    if given is None:
        row.fields.update(noun_chunks=[], ref_exps=[])
        if _chance(config, "unannotated", row.where, config.unannotated_share):
            return True
        tally.leave_out("row without a column of boxes, by the share that stays", row.where)
        return False
    objects = read_objects(str(given))
    if isinstance(objects, str):
        tally.bad(objects, row.where)
        return False
    row.fields.update(objects)
    return True


def _chance(config: GritConfig, name: str, row: str, share: float) -> bool:
    """A draw that follows from the seed and the row alone."""
    return bool(generator(config.seed, name, row).random() < share)


def _parse(item: Json, num_chars: int) -> tuple[int, int, Box, float] | None:
    found = numbers(item, 7)
    # some copies store the whole tuple as floats
    start, end = map(whole_number, found[:2]) if found else (None, None)
    if found is None or start is None or end is None or not 0 <= start < end <= num_chars:
        return None
    return start, end, Box(*found[2:6]), found[6]


def _contains(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer != inner and outer[0] <= inner[0] and inner[1] <= outer[1]


def _without_overlaps(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest spans that do not overlap, the first of equals; in reading order."""
    kept: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        if all(end <= other_start or other_end <= start for other_start, other_end in kept):
            kept.append((start, end))
    return sorted(kept)
