"""The JSON files of a Hugging Face Kosmos-2 folder <-> our configs.

- :func:`read_model_config`, :func:`model_fields`: ``config.json``
- :func:`read_image_config`, :func:`image_fields`: ``preprocessor_config.json``

A field that is absent has the default of transformers' ``Kosmos2Config``; a field that changes
what the model computes and that we do not have is an error, not a guess. Fields that only training
reads and we lack (layer drop, activation dropout) are told in the log.

Source: transformers 5.23 models/kosmos2/configuration_kosmos2.py, models/clip.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kosmos.errors import CheckpointError, ConfigError, DataError
from kosmos.files import Json, read_json
from kosmos.image.config import ImageConfig
from kosmos.model.config import ConnectorConfig, DecoderConfig, ModelConfig, VisionConfig

log = logging.getLogger(__name__)

MODEL_TYPE = "kosmos-2"
BICUBIC = 3

TEXT: dict[str, tuple[str, Any]] = {
    "vocab_size": ("vocab_size", 65037),
    "max_tokens": ("max_position_embeddings", 2048),
    "width": ("embed_dim", 2048),
    "num_layers": ("layers", 24),
    "ffn_width": ("ffn_dim", 8192),
    "num_heads": ("attention_heads", 32),
    "activation": ("activation_function", "gelu"),
    "dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
    "norm_eps": ("layer_norm_eps", 1e-5),
    "scale_embedding": ("scale_embedding", True),
}
"""Our field, theirs in ``text_config``, and its value where the file has none."""
TEXT_ALIASES = {
    "hidden_size": "embed_dim",
    "num_hidden_layers": "layers",
    "num_attention_heads": "attention_heads",
}
VISION: dict[str, tuple[str, Any]] = {
    "width": ("hidden_size", 1024),
    "ffn_width": ("intermediate_size", 4096),
    "num_layers": ("num_hidden_layers", 24),
    "num_heads": ("num_attention_heads", 16),
    "image_size": ("image_size", 224),
    "patch_size": ("patch_size", 14),
    "activation": ("hidden_act", "quick_gelu"),
    "norm_eps": ("layer_norm_eps", 1e-5),
}
"""The same of ``vision_config``."""
FIXED_TEXT: dict[str, Any] = {
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "add_cross_attention": False,
}
"""What our model cannot be told otherwise; another value in the file is an error."""
TRAINING_ONLY = ("layerdrop", "activation_dropout")


def is_huggingface(folder: Path) -> bool:
    """Whether a folder's ``config.json`` says it is a Hugging Face Kosmos-2."""
    fields = config_fields(folder / "config.json")
    return fields.get("model_type") == MODEL_TYPE


def config_fields(file: Path) -> dict[str, Json]:
    """A file of such a folder, which holds a JSON object."""
    try:
        fields = read_json(file)
    except DataError as error:
        raise CheckpointError(error.message, hint=error.hint) from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"{file}: expected a JSON object, found {type(fields).__name__}")
    return fields


def read_model_config(fields: Mapping[str, Json], *, where: str) -> ModelConfig:
    """The model that a ``config.json`` describes.

    Args:
        fields: The file's content.
        where: Its name, for messages.

    Raises:
        CheckpointError: If it is another kind of model, or one that ours cannot be.
    """
    if fields.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"{where}: model_type: expected {MODEL_TYPE!r}, found {fields.get('model_type')!r}",
            hint="CLIP folders are read with kosmos weights import --format clip"
            if str(fields.get("model_type", "")).startswith("clip")
            else None,
        )
    text = _section(fields, "text_config", where)
    text = {TEXT_ALIASES.get(name, name): value for name, value in text.items()}
    vision = _section(fields, "vision_config", where)
    _refuse(text, FIXED_TEXT, f"{where}: text_config")
    _refuse(vision, {"num_channels": 3}, f"{where}: vision_config")
    for name in TRAINING_ONLY:
        if text.get(name):
            log.warning("%s: text_config.%s=%s is left out", where, name, text[name])
    ours = {name: text.get(theirs, default) for name, (theirs, default) in TEXT.items()}
    try:
        return ModelConfig(
            decoder=DecoderConfig(**{**ours, "activation": _activation(ours["activation"])}),
            vision=read_vision_config(vision),
            connector=ConnectorConfig(
                kind="cross-attention",
                num_queries=fields.get("latent_query_num", 64),  # type: ignore[arg-type]
                **{name: ours[name] for name in ("num_heads", "width", "attention_dropout")},
            ),
        )
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error.message}", hint=error.hint) from error
    except TypeError as error:
        raise CheckpointError(f"{where}: expected numbers, found {error}") from error


def read_vision_config(fields: Mapping[str, Any]) -> VisionConfig:
    """The vision tower that a ``vision_config`` describes, or CLIP's.

    Raises:
        ConfigError: If it is one that ours cannot be.
    """
    ours = {name: fields.get(theirs, default) for name, (theirs, default) in VISION.items()}
    for name in ("image_size", "patch_size"):
        ours[name] = _side(ours[name], name)
    return VisionConfig(**{**ours, "activation": _activation(ours["activation"])})


def model_fields(config: ModelConfig) -> dict[str, Json]:
    """The ``config.json`` of a model.

    Raises:
        CheckpointError: If Hugging Face's Kosmos-2 cannot be this model.
    """
    decoder, vision, connector = config.decoder, config.vision, config.connector
    problems = []
    if vision is None or connector is None:
        raise CheckpointError(
            "export: expected a model with a vision tower, found a language-only baseline",
            hint="transformers' Kosmos-2 always has one; use our own folder format",
        )
    if decoder.positions != "sinusoidal":
        problems.append(f"decoder.positions={decoder.positions!r} instead of 'sinusoidal'")
    if connector.kind != "cross-attention":
        problems.append(f"connector.kind={connector.kind!r} instead of 'cross-attention'")
    if connector.num_heads != decoder.num_heads:
        problems.append(f"connector.num_heads={connector.num_heads}, not {decoder.num_heads}")
    if decoder.pad_id != FIXED_TEXT["pad_token_id"]:
        problems.append(f"decoder.pad_id={decoder.pad_id} instead of 1")
    if problems:
        raise CheckpointError(
            "export: expected a model that transformers' Kosmos-2 can be, found "
            + ", ".join(problems),
            hint="only kosmos2-released and models of its kind can be exported; "
            "our own folder format holds all",
        )
    # they have one rate; the release's config says 0.1, of which its decoder's kernel took nothing
    attention_dropout = max(decoder.attention_dropout, connector.attention_dropout)
    return {
        "architectures": ["Kosmos2ForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "latent_query_num": connector.num_queries,
        "tie_word_embeddings": True,
        "text_config": {
            "model_type": "kosmos_2_text_model",
            **{theirs: getattr(decoder, name) for name, (theirs, _) in TEXT.items()},
            "attention_dropout": attention_dropout,
            "activation_dropout": 0.0,
            "layerdrop": 0.0,
            "tie_word_embeddings": True,
            **FIXED_TEXT,
        },
        "vision_config": {
            "model_type": "kosmos_2_vision_model",
            **{theirs: getattr(vision, name) for name, (theirs, _) in VISION.items()},
            "num_channels": 3,
            "attention_dropout": 0.0,
        },
    }


def read_image_config(fields: Mapping[str, Any], *, where: str, image_size: int) -> ImageConfig:
    """The preprocessing that a ``preprocessor_config.json`` describes.

    Args:
        fields: The file's content; empty where there is no such file, which means CLIP's usual
            numbers at the model's size, squashed to a square as released inference does.
        where: Its name, for messages.
        image_size: What the vision tower reads.

    Raises:
        CheckpointError: If it is one that ours cannot be, or does not end at the model's size.
    """
    fields = {name: value for name, value in fields.items() if value is not None}
    if not fields:
        return ImageConfig(size=image_size)
    steps = dict.fromkeys(("do_resize", "do_rescale", "do_normalize"), True)
    _refuse(fields, {**steps, "resample": BICUBIC}, where)
    factor = fields.get("rescale_factor", 1 / 255)
    if not isinstance(factor, float) or abs(factor * 255 - 1) > 1e-6:
        raise CheckpointError(f"{where}: rescale_factor: expected 1/255, found {factor!r}")
    size = _resized(fields.get("size", {"shortest_edge": 224}), where)
    crops = fields.get("do_center_crop", True)
    crop = _resized(fields.get("crop_size", 224), where) if crops else size
    square = fields.get("use_square_size", False) or size[0] == "square"
    if size[1] != image_size or (crops and crop[1] != image_size) or not (square or crops):
        raise CheckpointError(
            f"{where}: expected pictures to end as {image_size} x {image_size} pixels as the model "
            f"reads, found size={fields.get('size')!r}, crop_size={fields.get('crop_size')!r}"
        )
    defaults = ImageConfig()
    return ImageConfig(
        size=image_size,
        geometry="square" if square else "center-crop",
        mean=_color(fields.get("image_mean", defaults.mean), f"{where}: image_mean"),
        std=_color(fields.get("image_std", defaults.std), f"{where}: image_std"),
    )


def image_fields(image: ImageConfig) -> dict[str, Json]:
    """The ``preprocessor_config.json`` of a preprocessing."""
    side: Json = {"height": image.size, "width": image.size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "Kosmos2Processor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": side if image.geometry == "square" else {"shortest_edge": image.size},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
    }


def _section(fields: Mapping[str, Json], name: str, where: str) -> dict[str, Any]:
    section = fields.get(name) or {}
    if not isinstance(section, dict):
        raise CheckpointError(f"{where}: {name}: expected an object, found {section!r}")
    return dict(section)


def _refuse(fields: Mapping[str, Any], fixed: Mapping[str, Any], where: str) -> None:
    """Fail on a field that is there with another value than the only one we know."""
    for name, value in fixed.items():
        if name in fields and fields[name] != value:
            raise CheckpointError(f"{where}: {name}: expected {value!r}, found {fields[name]!r}")


def _activation(name: Any) -> Any:  # noqa: ANN401
    """Their name of an activation, checked against those we have; the names are the same."""
    if name not in ("gelu", "quick_gelu", "relu"):
        raise ConfigError(
            f"activation: expected 'gelu', 'quick_gelu' or 'relu', found {name!r}",
            hint="approximate GELUs differ from the exact one the release uses",
        )
    return name


def _side(value: Any, name: str) -> int:  # noqa: ANN401
    """A side in pixels, from a number or from two equal ones."""
    sides = set(value) if isinstance(value, list | tuple) else {value}
    if len(sides) != 1 or not all(isinstance(side, int) for side in sides):
        raise ConfigError(f"vision.{name}: expected a square, found {value!r}")
    return int(sides.pop())


def _color(value: Any, where: str) -> tuple[float, float, float]:  # noqa: ANN401
    try:
        red, green, blue = map(float, value)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: expected three numbers, found {value!r}") from error
    return red, green, blue


def _resized(size: Any, where: str) -> tuple[str, int]:  # noqa: ANN401
    """Whether a size is a square or a shortest edge, and how long."""
    if isinstance(size, int):  # older files of CLIP's
        return "shortest_edge", size
    sides = list(size.values()) if isinstance(size, dict) else []
    if sides and isinstance(sides[0], int) and sides.count(sides[0]) == len(sides):
        if set(size) == {"shortest_edge"}:
            return "shortest_edge", sides[0]
        if set(size) == {"height", "width"}:
            return "square", sides[0]
    raise CheckpointError(f"{where}: size: expected a square or a shortest edge, found {size!r}")
