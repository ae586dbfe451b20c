"""The choices that readers leave to their users: for each format exactly those that it has.

::

    ImportConfig                        text, wikitext, jsonl, parquet, instructions
      PictureConfig                     pictures anywhere
        PairsConfig                     pairs
        FolderConfig                    pictures in a folder: questions, llava, and all test sets
          CocoConfig                    coco
          BoxesConfig                   boxes
          GritConfig
            GritCaptionsConfig          grit
            GritInstructionsConfig      grit-instructions
          PagesConfig                   mmc4, obelics
"""

from dataclasses import dataclass, field, fields
from typing import Literal

from kosmos.errors import ConfigError
from kosmos.image.config import ImageConfig

_LEAST = {
    "edge_sentences": 0,
    "max_images": 1,
    "max_pixels": 1,
    "min_caption_side_px": 0,
    "min_side_px": 1,
    "num_cells": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    """What every format has."""

    damaged_files: Literal["stop", "count"] = "stop"
    """What a file that ends early or cannot be read does: stop the import, or count as one bad
    record, with what was read of it before kept."""
    seed: int = 0
    """Of every random choice: which single-image pages stay, which documents are held out."""

    def __post_init__(self) -> None:
        for name in (each.name for each in fields(self)):
            value = getattr(self, name)
            if name.endswith(("_share", "_score")) and not 0.0 <= value <= 1.0:
                raise ConfigError(f"import.{name}: expected [0, 1], found {value}")
            if name in _LEAST and value < _LEAST[name]:
                raise ConfigError(f"import.{name}: expected at least {_LEAST[name]}, found {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureConfig(ImportConfig):
    """What every format with pictures has."""

    exclude_images: str = ""
    """File that names pictures to leave out: a name a line, or JSON Lines with a field ``file``.
    COCO pictures are known by their number under any name. KOSMOS-2 leaves those of RefCOCO's,
    RefCOCO+'s and RefCOCOg's validation and test sets out of LLaVA-Instruct."""
    max_pixels: int = ImageConfig().max_pixels
    """Pictures with more pixels are refused before they are decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsConfig(PictureConfig):
    """Captions beside their pictures."""

    prompt: str = ""
    """Words before each caption that carry no loss, such as "An image of", with which
    `kosmos caption` asks; empty: none, as in the papers' pre-training."""
    min_caption_side_px: int = 0
    """Pictures with a shorter side are left out; 200 in the release, for its LAION-2B."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderConfig(PictureConfig):
    """What formats have that name their pictures."""

    images: str = ""
    """Folder that relative picture names are looked up in; empty: beside the source. A picture that
    is no file there is looked for in the folder's tars and Parquet files, by its key."""
    assign_images: bool = False
    """Trials only: take pictures from the folder in order of name, whatever the records call them,
    so that interleaved text can be tried without its own pictures. The pairing means nothing."""

    def __post_init__(self) -> None:
        ImportConfig.__post_init__(self)
        if self.assign_images and not self.images:
            raise ConfigError(
                "import.assign_images: expected a folder of pictures, found images=''",
                hint="--images DIR names it",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoConfig(FolderConfig):
    """Captions of pictures."""

    prompt: str = ""
    """As in PairsConfig."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxesConfig(FolderConfig):
    """Things with boxes."""

    boxes: Literal["", "xyxy-pixels", "xywh-pixels", "xyxy-fractions", "xywh-fractions"] = ""
    """What four numbers mean where the file does not say: two corners or a corner and a size, in
    pixels or in fractions of the picture. It is never guessed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GritConfig(FolderConfig):
    """Which boxes of GRIT are taken."""

    grit_mode: Literal["phrase", "expression"] = "expression"
    """phrase: noun chunks. expression: referring expressions not contained in another."""
    min_score: float = 0.65
    """Boxes the detector scored lower are left out (KOSMOS-2)."""
    unannotated_share: float = 0.0
    """Of TSV: share of the rows without a column of boxes that stay, as plain captions; 0 in the
    release."""
    image: ImageConfig = field(default_factory=ImageConfig)
    """Preprocessing to come: with a center crop, boxes it leaves out cannot hide a phrase inside
    theirs."""

    def __post_init__(self) -> None:
        FolderConfig.__post_init__(self)
        if self.image.max_pixels != ImageConfig().max_pixels:
            raise ConfigError(
                "import.image.max_pixels: expected the limit of an import in max_pixels",
                hint="--set max_pixels=N",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GritCaptionsConfig(GritConfig):
    """GRIT as captions."""

    grounded_share: float = 1.0
    """Share of the rows that keep their boxes; the others become plain captions. 0.5 in the
    release; the paper has a stream of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GritInstructionsConfig(GritConfig):
    """GRIT as questions and answers."""

    comprehension_share: float = 0.5
    """Share that asks where an expression is; the others ask what is in a box. Not stated in the
    paper."""
    num_cells: int = 32
    """Cells along each side of the grid of the model they are for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagesConfig(FolderConfig):
    """Pages of text and pictures."""

    min_side_px: int = 64
    """Pictures with a shorter side are left out (KOSMOS-1)."""
    max_images: int = 5
    """How many pictures a document has at most (KOSMOS-1)."""
    behind_max_images: Literal["text", "nothing"] = "text"
    """What stays of a page behind its last allowed picture: its text without the pictures, or
    nothing, as in the algorithm that the release bundles."""
    single_image_share: float = 0.5
    """Share of the documents with one picture that stays (KOSMOS-1)."""
    edge_sentences: int = 0
    """Sentences kept before the first and behind the last picture; 0: all. 3 in the algorithm that
    the release bundles."""
    strip_tags: bool = True
    """Take HTML tags out of the text."""
