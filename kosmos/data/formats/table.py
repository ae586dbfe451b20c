"""The formats `kosmos data import` reads: a table."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from kosmos.data.formats.config import ImportConfig
from kosmos.data.formats.grit import read_grit
from kosmos.data.formats.heldout import read_coco_references, read_refcoco, read_vqa
from kosmos.data.formats.instructions import read_instructions
from kosmos.data.formats.mmc4 import read_mmc4
from kosmos.data.formats.pairs import read_coco, read_pairs
from kosmos.data.formats.tally import Tally
from kosmos.data.formats.text import read_jsonl_text, read_paragraphs, read_wikitext
from kosmos.document.types import Document

Reader: TypeAlias = Callable[[Path, ImportConfig, Tally], Iterator[Document]]


class Format(NamedTuple):
    """A reader and what it reads, in a line."""

    read: Reader
    help: str
    is_test_set: bool = False
    """Only ever measured on: all of it is held out."""


FORMATS: dict[str, Format] = {
    "text": Format(read_paragraphs, "text files, a document per stretch between blank lines"),
    "wikitext": Format(read_wikitext, "WikiText files, a document per article"),
    "jsonl": Format(read_jsonl_text, "JSON Lines with a field 'text'"),
    "pairs": Format(read_pairs, "WebDataset tars of pictures and captions (img2dataset)"),
    "coco": Format(read_coco, "COCO captions and their pictures"),
    "grit": Format(read_grit, "GRIT rows: captions with boxes"),
    "mmc4": Format(read_mmc4, "MMC4 rows: interleaved web pages"),
    "instructions": Format(read_instructions, "instruction triplets (self-instruct, Alpaca)"),
    "coco-references": Format(read_coco_references, "COCO pictures to evaluate captions on", True),
    "refcoco": Format(read_refcoco, "referring expressions to evaluate on", True),
    "vqa": Format(read_vqa, "questions to evaluate on (VQAv2, TextVQA)", True),
}
