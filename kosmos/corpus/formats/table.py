"""The formats `kosmos data import` reads: a table."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from kosmos.corpus.formats.boxes import read_boxes
from kosmos.corpus.formats.config import ImportConfig
from kosmos.corpus.formats.grit import read_grit
from kosmos.corpus.formats.grounded_instructions import read_grounded_instructions
from kosmos.corpus.formats.heldout import read_coco_references, read_refcoco, read_vqa
from kosmos.corpus.formats.instructions import read_instructions
from kosmos.corpus.formats.llava import read_llava
from kosmos.corpus.formats.mmc4 import read_mmc4
from kosmos.corpus.formats.obelics import read_obelics
from kosmos.corpus.formats.pairs import read_coco, read_pairs
from kosmos.corpus.formats.questions import read_questions
from kosmos.corpus.formats.tally import Tally
from kosmos.corpus.formats.text import (
    read_jsonl_text,
    read_paragraphs,
    read_parquet_text,
    read_wikitext,
)
from kosmos.document.types import Document
from kosmos.remote import AnyPath

Reader: TypeAlias = Callable[[AnyPath, ImportConfig, Tally], Iterator[Document]]


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
    "parquet": Format(read_parquet_text, "Parquet with a column 'text'"),
    "pairs": Format(
        read_pairs,
        "pictures and captions: WebDataset tars (img2dataset), Parquet, the release's TSV",
    ),
    "coco": Format(
        read_coco, "COCO captions and their pictures, or JSON Lines of file and caption"
    ),
    "grit": Format(read_grit, "captions with boxes: GRIT as JSON Lines, Parquet, tars or TSV"),
    "grit-instructions": Format(
        read_grounded_instructions, "GRIT as questions about expressions and boxes"
    ),
    "boxes": Format(
        read_boxes, "things with boxes in a named convention: JSON Lines, COCO detection"
    ),
    "questions": Format(read_questions, "questions about pictures and answers: JSON Lines, VQAv2"),
    "mmc4": Format(read_mmc4, "MMC4 rows: interleaved web pages"),
    "obelics": Format(read_obelics, "OBELICS rows: interleaved web pages"),
    "instructions": Format(
        read_instructions,
        "instruction triplets: Unnatural Instructions, FLANv2, Alpaca, self-instruct",
    ),
    "llava": Format(read_llava, "conversations about pictures: LLaVA-Instruct"),
    "coco-references": Format(read_coco_references, "COCO pictures to evaluate captions on", True),
    "refcoco": Format(read_refcoco, "referring expressions to evaluate on", True),
    "vqa": Format(read_vqa, "questions to evaluate on (VQAv2, TextVQA)", True),
}
