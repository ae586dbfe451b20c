"""ImportConfig: the choices a reader leaves to its user."""

from dataclasses import dataclass, field
from typing import Literal

from kosmos.errors import ConfigError
from kosmos.image.config import ImageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    """How a source becomes documents. A reader uses the fields that concern its format."""

    images: str = ""
    """Folder that relative picture names are looked up in; empty: beside the source."""
    assign_images: bool = False
    """Trials only: take pictures from the folder in order of name, whatever the records call them,
    so that interleaved text can be tried without its own pictures. The pairing means nothing."""
    seed: int = 0
    """Of every random choice: which single-image pages stay, which documents are held out."""
    grit_mode: Literal["phrase", "expression"] = "expression"
    """phrase: noun chunks. expression: referring expressions not contained in another."""
    min_score: float = 0.65
    """Boxes the detector scored lower are left out (KOSMOS-2)."""
    image: ImageConfig = field(default_factory=ImageConfig)
    """Preprocessing to come: with a center crop, boxes it leaves out cannot hide a phrase inside
    theirs. Also the limit on pixels."""
    min_side_px: int = 64
    """Pictures with a shorter side are left out (KOSMOS-1, interleaved pages)."""
    max_images: int = 5
    """Interleaved: pictures of a document behind this many are left out (KOSMOS-1)."""
    single_image_share: float = 0.5
    """Interleaved: share of the documents with one picture that stays (KOSMOS-1)."""
    edge_sentences: int = 0
    """Interleaved: sentences kept before the first and behind the last picture; 0: all. 3 in the
    algorithm that the release bundles."""

    def __post_init__(self) -> None:
        for name in ("min_score", "single_image_share"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"import.{name}: expected [0, 1], found {value}")
        for name, least in (("min_side_px", 1), ("max_images", 1), ("edge_sentences", 0)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"import.{name}: expected at least {least}, found {value}")
        if self.assign_images and not self.images:
            raise ConfigError(
                "import.assign_images: expected a folder of pictures, found images=''",
                hint="--images DIR names it",
            )
