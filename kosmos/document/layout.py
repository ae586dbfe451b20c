"""Layout: the options in which the paper, the release and the Hugging Face port lay out tokens.

- :data:`TRAINING`: what released training does
- :data:`INFERENCE`: what released inference and the Hugging Face processor do
- :class:`AnswerConfig`: how a model is asked that was trained in another layout
"""

from dataclasses import dataclass, replace
from typing import Literal

from kosmos.config import check_numbers
from kosmos.errors import ConfigError
from kosmos.image.config import ImageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a document becomes a row of token ids."""

    num_image_tokens: int = 64
    """Slots per image; equals the connector's num_queries."""
    slot_ids: Literal["image", "counting"] = "image"
    """Ids standing in the slots: the <image> id repeated (released training) or 4, 5, 6, ...
    (released inference, HF). The model never reads them."""
    rounding: Literal["release", "hf"] = "release"
    """How a box corner on a grid line is rounded; see text/locations.py."""
    spans: Literal["splice", "separate"] = "splice"
    """splice: tokenize the whole caption, then put the tags between its tokens (training).
    separate: tokenize each stretch between tags by itself (prompts, HF)."""
    typed_control: Literal["text", "control"] = "text"
    """What ``<s>``, ``</s>``, ``<pad>``, ``<image>`` typed in a text mean: plain text, or the
    control token (HF)."""
    line_tokens: bool = False
    """Text corpora: drop empty lines and end every line but the last with </line> (release)."""
    ground: bool = True
    """Write boxes and <grounding>; False lays out a grounded caption as a plain one."""

    def __post_init__(self) -> None:
        check_numbers(self, "layout", positive=("num_image_tokens",))
        if self.typed_control == "control" and self.spans == "splice":
            raise ConfigError(
                "layout.typed_control: expected 'text' where spans='splice', found 'control'",
                hint="the Hugging Face behavior goes with spans='separate'",
            )


TRAINING = Layout()
INFERENCE = Layout(slot_ids="counting", rounding="hf", spans="separate")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerConfig:
    """How a model is asked, in all that may differ from how its targets were laid out.

    The defaults are the release's: trained on center crops and spliced targets, it answers on whole
    pictures pressed into a square, to prompts whose stretches are tokenized apart.
    """

    geometry: Literal["square", "center-crop"] = "square"
    """As image.geometry."""
    slot_ids: Literal["image", "counting"] = INFERENCE.slot_ids
    """As layout.slot_ids."""
    rounding: Literal["release", "hf"] = INFERENCE.rounding
    """As layout.rounding."""
    spans: Literal["splice", "separate"] = INFERENCE.spans
    """As layout.spans."""
    typed_control: Literal["text", "control"] = INFERENCE.typed_control
    """As layout.typed_control."""

    def __post_init__(self) -> None:
        self.layout(TRAINING)  # which fails where fields do not go together

    @classmethod
    def of(cls, image: ImageConfig, layout: Layout) -> "AnswerConfig":
        """What a model folder says."""
        return cls(
            geometry=image.geometry,
            slot_ids=layout.slot_ids,
            rounding=layout.rounding,
            spans=layout.spans,
            typed_control=layout.typed_control,
        )

    def image(self, targets: ImageConfig) -> ImageConfig:
        """Preprocessing of the pictures of prompts.

        Args:
            targets: That of targets.
        """
        return replace(targets, geometry=self.geometry)

    def layout(self, targets: Layout) -> Layout:
        """Layout of prompts.

        Args:
            targets: That of targets.
        """
        return replace(
            targets,
            slot_ids=self.slot_ids,
            rounding=self.rounding,
            spans=self.spans,
            typed_control=self.typed_control,
        )
