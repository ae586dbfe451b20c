"""The formats `kosmos data import` reads: a table of readers and what can be set of them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kosmos import config as configs
from kosmos.corpus.formats.boxes import read_boxes
from kosmos.corpus.formats.config import (
    BoxesConfig,
    CocoConfig,
    FolderConfig,
    GritCaptionsConfig,
    GritInstructionsConfig,
    ImportConfig,
    PagesConfig,
    PairsConfig,
)
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
from kosmos.errors import ConfigError
from kosmos.remote import AnyPath


@dataclass(frozen=True, slots=True)
class Format:
    """A reader, the choices it has, and what it reads in a line."""

    reader: Callable[[AnyPath, Any, Tally], Iterator[Document]]
    config: type[ImportConfig]
    help: str
    is_test_set: bool = False
    """Only ever measured on: all of it is held out."""

    def read(self, source: AnyPath, config: ImportConfig, tally: Tally) -> Iterator[Document]:
        """The documents of a source.

        Args:
            source: A file, or a folder of files of the format.
            config: Choices, of the class that the format has.
            tally: Filled while the documents are drawn.

        Raises:
            ConfigError: If the choices are another format's.
            DataError: While the documents are drawn, if a file is not what the format says.
        """
        if type(config) is not self.config:
            raise ConfigError(
                f"import: expected a {self.config.__name__}, found a {type(config).__name__}"
            )
        return self.reader(source, config, tally)


FORMATS: dict[str, Format] = {
    "text": Format(
        read_paragraphs, ImportConfig, "text files, a document per stretch between blank lines"
    ),
    "wikitext": Format(read_wikitext, ImportConfig, "WikiText files, a document per article"),
    "jsonl": Format(read_jsonl_text, ImportConfig, "JSON Lines with a field 'text'"),
    "parquet": Format(read_parquet_text, ImportConfig, "Parquet with a column 'text'"),
    "pairs": Format(
        read_pairs,
        PairsConfig,
        "pictures and captions: WebDataset tars (img2dataset), Parquet, the release's TSV",
    ),
    "coco": Format(
        read_coco, CocoConfig, "COCO captions and their pictures, or JSON Lines of file and caption"
    ),
    "grit": Format(
        read_grit,
        GritCaptionsConfig,
        "captions with boxes: GRIT as JSON Lines, Parquet, tars or TSV",
    ),
    "grit-instructions": Format(
        read_grounded_instructions,
        GritInstructionsConfig,
        "GRIT as questions about expressions and boxes",
    ),
    "boxes": Format(
        read_boxes,
        BoxesConfig,
        "things with boxes in a named convention: JSON Lines, COCO",
    ),
    "questions": Format(
        read_questions, FolderConfig, "questions about pictures and answers: JSON Lines, VQAv2"
    ),
    "mmc4": Format(read_mmc4, PagesConfig, "MMC4 rows: interleaved web pages"),
    "obelics": Format(read_obelics, PagesConfig, "OBELICS rows: interleaved web pages"),
    "instructions": Format(
        read_instructions,
        ImportConfig,
        "instruction triplets: Unnatural Instructions, FLANv2, Alpaca, self-instruct",
    ),
    "llava": Format(
        read_llava, FolderConfig, "conversations about pictures: LLaVA-Instruct, ms-swift"
    ),
    "coco-references": Format(
        read_coco_references, FolderConfig, "COCO pictures to evaluate captions on", True
    ),
    "refcoco": Format(read_refcoco, FolderConfig, "referring expressions to evaluate on", True),
    "vqa": Format(read_vqa, FolderConfig, "questions to evaluate on (VQAv2, TextVQA)", True),
}


def make_config(
    format_name: str, settings: Sequence[str] = (), values: Mapping[str, object] | None = None
) -> ImportConfig:
    """The choices of a format.

    Args:
        format_name: A name of :data:`FORMATS`.
        settings: ``name=value``, as ``--set`` has them.
        values: Fields by name.

    Raises:
        ConfigError: If the format is unknown, or a setting is none that it uses, with the formats
            that do.
    """
    if format_name not in FORMATS:
        raise ConfigError(f"format: expected one of {', '.join(FORMATS)}, found {format_name!r}")
    config: ImportConfig = FORMATS[format_name].config()
    names = [*(values or {}), *(setting.partition("=")[0] for setting in settings)]
    for name in names:
        field = name.partition(".")[0]
        users = [each for each, found in FORMATS.items() if field in _fields(found.config)]
        if users and format_name not in users:
            raise ConfigError(
                f"{name}: expected a setting of {format_name}, found one of {', '.join(users)}",
                hint=f"{format_name} has {', '.join(sorted(_fields(FORMATS[format_name].config)))}",
            )
    built = configs.replace(config, values or {})
    for setting in settings:
        built = configs.override(built, setting)
    return built


def _fields(config: type[ImportConfig]) -> set[str]:
    return {field.name for field in dataclasses.fields(config)}
