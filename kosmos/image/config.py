"""Which preprocessing a model was trained with."""

from dataclasses import dataclass
from typing import Literal

from kosmos.config import check_numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """How a picture becomes the square the vision tower reads."""

    size: int = 224
    """Pixels along each side."""
    geometry: Literal["square", "center-crop"] = "square"
    """square: resize ignoring the aspect ratio, as released inference does. center-crop: shortest
    side to size, then the middle, as released training does; boxes move with the picture."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Subtracted from red, green and blue in [0, 1]; CLIP's."""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """Divided by; CLIP's."""
    min_visible: float = 0.2
    """center-crop: a box with less than this fraction of its area left is dropped."""
    max_pixels: int = 178_956_970
    """Pictures with more pixels are refused before they are decoded; Pillow's own limit doubled."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            "image",
            positive=("size", "std", "max_pixels"),
            not_negative=("mean",),
            fractions=("min_visible",),
        )
