"""ImportConfig: the choices a reader leaves to its user."""

from dataclasses import dataclass, field
from typing import Literal

from kosmos.errors import ConfigError
from kosmos.image.config import ImageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    """How a source becomes documents. A reader uses the fields that concern its format."""

    images: str = ""
    """Folder that relative picture names are looked up in; empty: beside the source. A picture that
    is no file there is looked for in the folder's tars and Parquet files, by its key."""
    assign_images: bool = False
    """Trials only: take pictures from the folder in order of name, whatever the records call them,
    so that interleaved text can be tried without its own pictures. The pairing means nothing."""
    exclude_images: str = ""
    """File that names pictures to leave out: a name a line, or JSON Lines with a field ``file``.
    COCO pictures are known by their number under any name. KOSMOS-2 leaves those of RefCOCO's,
    RefCOCO+'s and RefCOCOg's validation and test sets out of LLaVA-Instruct."""
    damaged_files: Literal["stop", "count"] = "stop"
    """What a file that ends early or cannot be read does: stop the import, or count as one bad
    record, with what was read of it before kept."""
    seed: int = 0
    """Of every random choice: which single-image pages stay, which documents are held out."""
    prompt: str = ""
    """Pairs, COCO: words before each caption that carry no loss, such as "An image of", with which
    `kosmos caption` asks; empty: none, as in the papers' pre-training."""
    boxes: Literal["", "xyxy-pixels", "xywh-pixels", "xyxy-fractions", "xywh-fractions"] = ""
    """Boxes: what four numbers mean where the file does not say: two corners or a corner and a
    size, in pixels or in fractions of the picture. It is never guessed."""
    min_caption_side_px: int = 0
    """Pairs: pictures with a shorter side are left out; 200 in the release, for its LAION-2B."""
    grit_mode: Literal["phrase", "expression"] = "expression"
    """phrase: noun chunks. expression: referring expressions not contained in another."""
    min_score: float = 0.65
    """Boxes the detector scored lower are left out (KOSMOS-2)."""
    grounded_share: float = 1.0
    """GRIT: share of the rows that keep their boxes; the others become plain captions. 0.5 in the
    release; the paper has a stream of each."""
    unannotated_share: float = 0.0
    """GRIT as TSV: share of the rows without a column of boxes that stay, as plain captions; 0 in
    the release."""
    comprehension_share: float = 0.5
    """Grounded instructions: share that asks where an expression is; the others ask what is in a
    box. Not stated in the paper."""
    num_cells: int = 32
    """Grounded instructions: cells along each side of the grid of the model they are for."""
    image: ImageConfig = field(default_factory=ImageConfig)
    """Preprocessing to come: with a center crop, boxes it leaves out cannot hide a phrase inside
    theirs. Also the limit on pixels."""
    min_side_px: int = 64
    """Interleaved: pictures with a shorter side are left out (KOSMOS-1)."""
    max_images: int = 5
    """Interleaved: how many pictures a document has at most (KOSMOS-1)."""
    behind_max_images: Literal["text", "nothing"] = "text"
    """Interleaved: what stays of a page behind its last allowed picture: its text without the
    pictures, or nothing, as in the algorithm that the release bundles."""
    single_image_share: float = 0.5
    """Interleaved: share of the documents with one picture that stays (KOSMOS-1)."""
    edge_sentences: int = 0
    """Interleaved: sentences kept before the first and behind the last picture; 0: all. 3 in the
    algorithm that the release bundles."""
    strip_tags: bool = True
    """Interleaved: take HTML tags out of the text."""

    def __post_init__(self) -> None:
        for name in (
            "min_score",
            "grounded_share",
            "unannotated_share",
            "comprehension_share",
            "single_image_share",
        ):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"import.{name}: expected [0, 1], found {value}")
        least = {
            "min_caption_side_px": 0,
            "num_cells": 1,
            "min_side_px": 1,
            "max_images": 1,
            "edge_sentences": 0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if value < low:
                raise ConfigError(f"import.{name}: expected at least {low}, found {value}")
        if self.assign_images and not self.images:
            raise ConfigError(
                "import.assign_images: expected a folder of pictures, found images=''",
                hint="--images DIR names it",
            )
