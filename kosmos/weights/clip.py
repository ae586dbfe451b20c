"""Hugging Face CLIP weights into a vision tower: where both papers' models start.

Accepts the folder of a ``CLIPModel``, ``CLIPVisionModel`` or ``CLIPVisionModelWithProjection``, or
its safetensors file. The text side and the projections are known and left out, by name; anything
else that does not fit is an error. KOSMOS puts CLIP's final norm on every token, not on the pooled
one alone; the weights are the same.
"""

from dataclasses import fields
from pathlib import Path

from kosmos.errors import CheckpointError, ConfigError, DataError
from kosmos.files import read_json
from kosmos.model.config import VisionConfig
from kosmos.model.vision import VisionTower
from kosmos.weights.convert import ignored_names, match
from kosmos.weights.huggingface_config import read_vision_config
from kosmos.weights.names import CLIP_IGNORED, CLIP_VISION
from kosmos.weights.tensors import StoredTensor, list_tensors, read_tensors

PREFIX = "vision_model."
_VISION_TYPES = ("clip", "clip_vision_model")

# those of ViT-B/32, where Kosmos-2 has those of ViT-L/14
CLIP_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 32,
}


def load_clip(vision: VisionTower, source: str | Path) -> tuple[str, ...]:
    """Read CLIP's vision weights into a tower, in the tower's type and on its device.

    Args:
        vision: All its weights are overwritten.
        source: A folder, whose config is compared with the tower's, or a safetensors file, of
            which only names and shapes can be.

    Returns:
        Names of the tensors that were there and are not of the tower, sorted.

    Raises:
        CheckpointError: If it is another kind of model, or of another shape or activation.
    """
    path = Path(source)
    if not path.exists():
        raise CheckpointError(f"{path}: expected a CLIP folder or a file, found nothing there")
    if path.is_dir():
        _compare(vision.config, read_clip_config(path), where=str(path / "config.json"))
    stored = _with_prefix(list_tensors(path))
    wanted = dict(vision.named_parameters())
    pairs = match(
        {name: tuple(parameter.shape) for name, parameter in wanted.items()},
        {name: tensor.shape for name, tensor in stored.items()},
        where=str(path),
        table=CLIP_VISION,
        ignored=CLIP_IGNORED,
    )
    read_tensors({ours: stored[theirs] for ours, theirs in pairs.items()}, wanted)
    return ignored_names(stored, pairs)


def read_clip_config(folder: Path) -> VisionConfig:
    """The vision tower a CLIP folder's ``config.json`` describes.

    Raises:
        CheckpointError: If it is another kind of model, or a tower that ours cannot be.
    """
    file = folder / "config.json"
    try:
        config = read_json(file)
    except DataError as error:
        raise CheckpointError(error.message, hint=error.hint) from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(config, dict) or kind not in _VISION_TYPES:
        raise CheckpointError(
            f"{file}: model_type: expected one of {', '.join(map(repr, _VISION_TYPES))}, "
            f"found {kind!r}"
        )
    section = config if kind == "clip_vision_model" else config.get("vision_config")
    try:
        return read_vision_config({**CLIP_DEFAULTS, **(section or {})})  # type: ignore[dict-item]
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def _with_prefix(stored: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Newer versions save a lone CLIPVisionModel without the prefix the other kinds have."""
    if any(name.startswith(PREFIX) for name in stored):
        return stored
    return {PREFIX + name: tensor for name, tensor in stored.items()}


def _compare(ours: VisionConfig, theirs: VisionConfig, *, where: str) -> None:
    for field in fields(VisionConfig):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if mine != other:
            raise CheckpointError(
                f"{where}: expected vision.{field.name} {mine!r} as the model has, found {other!r}",
                hint=f"--set model.vision.{field.name}={other} makes the model fit",
            )
