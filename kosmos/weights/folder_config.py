"""``config.json`` of a model folder: what it says, and how it is read and checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kosmos.config import from_json
from kosmos.document.layout import Layout
from kosmos.errors import CheckpointError, ConfigError, DataError
from kosmos.files import Json, check_replaceable, read_json
from kosmos.image.config import ImageConfig
from kosmos.model.config import ModelConfig

FORMAT = "openkosmos"
FORMAT_VERSION = 1
QUANTIZED_VERSION = 2
CONFIG = "config.json"
TOKENIZER = "tokenizer.model"
CARD = "README.md"
WEIGHT_FILES = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerRecord:
    """Which tokenizer the folder holds."""

    num_pieces: int
    """Pieces of the SentencePiece model, control pieces included."""
    num_cells: int
    """Cells along each side of the location grid."""
    sha256: str
    """Of tokenizer.model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsRecord:
    """Which weights the folder holds."""

    dtype: str
    """Type of the tensors; of those that are not quantized, and so of activations."""
    num_parameters: int
    """Numbers in them, scales not counted."""
    sha256: dict[str, str]
    """Of each weight file, by name."""
    quantization: Literal["int8"] | None = None
    """How linear layers and the embedding are stored; not written where they are plain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderConfig:
    """What ``config.json`` says, but for the provenance, which is free JSON beside it."""

    format: str
    """Always ``openkosmos``."""
    format_version: int
    """Raised when older readers could not read a folder."""
    model: ModelConfig
    """Shape of the model."""
    image: ImageConfig
    """Preprocessing of pictures."""
    layout: Layout
    """Layout of tokens."""
    tokenizer: TokenizerRecord
    """Which tokenizer."""
    weights: WeightsRecord
    """Which weights."""


def read_config(folder: Path) -> tuple[FolderConfig, Json]:
    """What our ``config.json`` says, and the provenance.

    Raises:
        CheckpointError: If it is not ours, is of a newer version, or has unknown fields.
    """
    file = folder / CONFIG
    try:
        fields = read_json(file)
    except DataError as error:
        raise CheckpointError(error.message, hint=error.hint) from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        kind = fields.get("model_type") if isinstance(fields, dict) else None
        raise CheckpointError(
            f"{file}: expected 'format': {FORMAT!r} or 'model_type': 'kosmos-2', found "
            + (f"'model_type': {kind!r}" if kind else "neither")
        )
    if fields.get("format_version") not in (FORMAT_VERSION, QUANTIZED_VERSION):
        raise CheckpointError(
            f"{file}: expected format_version {FORMAT_VERSION} or {QUANTIZED_VERSION}, found "
            f"{fields.get('format_version')!r}",
            hint="a newer version of this package wrote it; upgrade",
        )
    provenance = fields.pop("provenance", None)
    try:
        config = from_json(FolderConfig, fields, where=f"{file}")
    except ConfigError as error:
        raise CheckpointError(error.message, hint=error.hint) from error
    check_parts(config.model, config.image, config.layout, where=str(file))
    return config, provenance


def check_model_folder(folder: Path, *, is_quantized: bool = False) -> None:
    """Fail unless a folder may be replaced: it is empty, or a model folder of ours and no more.

    Args:
        folder: Where the new one goes.
        is_quantized: The new one is quantized; that replaces no weights of full precision.

    Raises:
        ConfigError: Naming what lies there.
    """

    def is_result(folder: Path) -> bool:
        fields = read_json(folder / CONFIG)
        weights = fields.get("weights") if isinstance(fields, dict) else None
        if not isinstance(fields, dict) or not isinstance(weights, dict):
            return False
        return fields.get("format") == FORMAT and (
            not is_quantized or weights.get("quantization") is not None
        )

    check_replaceable(
        folder,
        "a quantized model folder" if is_quantized else "a model folder",
        files=(CONFIG, TOKENIZER, CARD, *WEIGHT_FILES),
        is_result=is_result,
    )


def check_apart(target: str | Path, *sources: str | Path) -> None:
    """Fail if what is written would lie in what it is made from, or around it.

    Raises:
        ConfigError: Naming both.
    """
    new = Path(target).resolve()
    for source in sources:
        old = Path(source).resolve()
        if old == new or old in new.parents or new in old.parents:
            raise ConfigError(
                f"{target}: expected a folder apart from {source}, found "
                + ("the same" if old == new else "one inside the other"),
                hint="what is read is never replaced; choose another name",
            )


def check_parts(model: ModelConfig, image: ImageConfig, layout: Layout, *, where: str) -> None:
    """Fail unless pictures and slots are what the model expects.

    Raises:
        CheckpointError: Naming both sides.
    """
    if model.vision is None or model.connector is None:
        return
    if image.size != model.vision.image_size:
        raise CheckpointError(
            f"{where}: expected image.size {model.vision.image_size} as the vision tower reads, "
            f"found {image.size}"
        )
    if layout.num_image_tokens != model.connector.num_queries:
        raise CheckpointError(
            f"{where}: expected layout.num_image_tokens {model.connector.num_queries} as the "
            f"connector has queries, found {layout.num_image_tokens}"
        )
