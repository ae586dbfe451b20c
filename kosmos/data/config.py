"""Stream: one kind of data, and its share of every optimizer step."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from kosmos.errors import ConfigError

Packing: TypeAlias = Literal["single", "full-sentence", "isolated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One kind of data, and its share of every optimizer step."""

    name: str
    """Unique in the run; metrics are reported under it."""
    path: str
    """Folder of document shards. Empty in a recipe whose data is the user's to name."""
    sequences_per_step: int
    """Sequences of this stream in every optimizer step: rows when packed, documents otherwise."""
    tokens_per_sequence: float
    """Mean length, image slots included; used by `kosmos plan` until an index has measured it."""
    packing: Packing = "single"
    """single: a document a row. full-sentence: lines fill rows, documents of a row see each other
    (papers). isolated: documents fill rows without seeing each other."""
    max_tokens: int = 2048
    """Longest row; longer documents are cut (full-sentence) or refused."""
    images_per_sequence: float = 0.0
    """Mean number of images; used by `kosmos plan`."""
    ground: bool = True
    """Whether boxes are written; False reads grounded captions as plain ones."""
    line_tokens: bool = False
    """Whether lines end with </line> (text corpora)."""
    heldout_path: str = ""
    """Folder of shards whose loss is measured and never trained on; empty: none."""
    max_unusable: float = 0.01
    """Fraction of the documents that may be unusable (too long, unreadable image, ...) before the
    run refuses to start; what was left out is listed beside the index."""

    def __post_init__(self) -> None:
        if self.sequences_per_step <= 0:
            raise ConfigError(
                f"streams.{self.name}.sequences_per_step: expected a positive number, "
                f"found {self.sequences_per_step}"
            )
        if self.max_tokens < 2:
            raise ConfigError(
                f"streams.{self.name}.max_tokens: expected at least 2, found {self.max_tokens}"
            )
        if not 0.0 <= self.max_unusable <= 1.0:
            raise ConfigError(
                f"streams.{self.name}.max_unusable: expected [0, 1], found {self.max_unusable}"
            )
