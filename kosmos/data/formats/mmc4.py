"""MMC4: web pages whose pictures were matched to sentences, into interleaved documents.

A row::

    {"url": ..., "text_list": ["A sentence.", ...],
     "image_info": [{"image_name": "95d3.jpg", "matched_text_index": 18, ...}, ...]}

A picture stands before the sentence it was matched to. KOSMOS-1's rules then apply: pictures that
are tiny or of one color go, at most five stay, and half of the pages with one picture go.

The collection has no pictures in it. Where they were fetched into a folder, those that are there
are used; pages left without any are left out, and counted.

Source: KOSMOS-1 (arXiv:2302.14045) section 3.1.
"""

from collections.abc import Iterator
from pathlib import Path

from kosmos.data.formats.config import ImportConfig
from kosmos.data.formats.pictures import PictureFolder, judge_picture
from kosmos.data.formats.records import Row, read_rows, text_field
from kosmos.data.formats.tally import Tally
from kosmos.document.types import Document, Image, Part, Text
from kosmos.runtime import generator


def read_mmc4(source: Path, config: ImportConfig, tally: Tally) -> Iterator[Document]:
    """Pages with at least one picture that is there."""
    folder = PictureFolder(source, config)
    for row in read_rows(source, tally, suffixes=frozenset({".jsonl"})):
        sentences = row.fields.get("text_list")
        if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
            tally.bad("no text_list", row.where)
            continue
        places = _places(row, len(sentences), tally)
        if places is None:
            continue
        pictures = _pictures(places, folder, config, tally, row.where)
        if not pictures:
            tally.leave_out("page without a picture", row.where)
        elif len(pictures) == 1 and not _stays(row, config):
            tally.leave_out("page with one picture, by the share that stays", row.where)
        else:
            tally.keep()
            url = text_field(row.fields, "url") or row.where
            parts = interleave([str(sentence) for sentence in sentences], pictures, config)
            yield Document(parts, id=row.where, meta={"source": url})


def interleave(
    sentences: list[str], pictures: list[tuple[int, Path]], config: ImportConfig
) -> list[Part]:
    """Sentences with pictures before those they belong to.

    Args:
        sentences: Of the page.
        pictures: Index of a sentence and file, in reading order; at least one.
        config: ``edge_sentences`` limits the text outside the pictures.
    """
    first = 0
    last = len(sentences)
    if config.edge_sentences:
        first = max(0, pictures[0][0] - config.edge_sentences)
        last = min(len(sentences), pictures[-1][0] + config.edge_sentences)
    parts: list[Part] = []
    cursor = first
    for index, path in pictures:
        parts += _text(sentences[cursor:index])
        parts.append(Image(path))
        cursor = index
    return parts + _text(sentences[cursor:last])


def _text(sentences: list[str]) -> list[Part]:
    words = " ".join(sentence.strip() for sentence in sentences).strip()
    return [Text(words)] if words else []


def _places(row: Row, num_sentences: int, tally: Tally) -> list[tuple[int, str]] | None:
    """Sentence and name of each picture, in reading order; None (counted) if malformed."""
    infos = row.fields.get("image_info")
    if not isinstance(infos, list):
        tally.bad("no image_info", row.where)
        return None
    places: list[tuple[int, str]] = []
    for info in infos:
        name = info.get("image_name") if isinstance(info, dict) else None
        index = info.get("matched_text_index") if isinstance(info, dict) else None
        if not isinstance(name, str) or not isinstance(index, int | float):
            tally.bad("image_info without name or sentence", row.where)
            return None
        if not 0 <= int(index) < num_sentences:
            tally.bad("picture matched to no sentence", row.where)
            return None
        places.append((int(index), name))
    return sorted(places, key=lambda place: place[0])


def _pictures(
    places: list[tuple[int, str]],
    folder: PictureFolder,
    config: ImportConfig,
    tally: Tally,
    where: str,
) -> list[tuple[int, Path]]:
    """The pictures that are there and of use, as many as a document may have."""
    found: list[tuple[int, Path]] = []
    for index, name in places:
        if len(found) == config.max_images:
            tally.change(f"picture behind the first {config.max_images}", where)
            continue
        path = folder.find(name)
        problem = "no file of the picture" if path is None else judge_picture(path, config)
        if problem is not None:
            tally.change(problem, f"{where}: {name}")
        elif path is not None:
            found.append((index, path))
    return found


def _stays(row: Row, config: ImportConfig) -> bool:
    """Whether a page with one picture stays: a function of the seed and the page alone."""
    rng = generator(config.seed, "single-image", text_field(row.fields, "url") or row.where)
    return bool(rng.random() < config.single_image_share)
