"""The checkpoint of the original release: ``kosmos-2.pt`` of microsoft/unilm, as fairseq wrote it.

::

    args, cfg               what it was trained with: a Namespace, in newer versions inside a dict
    model                   tensors by the release's names; 65,037 rows of embedding
    optimizer_history, extra_state, last_optimizer_state, ...   of no use here, never read

- :func:`import_fairseq`: the file and a SentencePiece model into a model
- :func:`read_release`: its config, and its tensors as places in the file

Sizes are those of the tensors. What tensors do not tell is taken from the arguments where the file
has them and else is the release's: heads are 64 wide, positions sinusoidal whatever
``sope_rel_pos`` says (the lines that would apply it are commented out), and attention dropout acts
in the connector alone, as flash attention takes none.

A file of the release's size (3.3 GB, float16) becomes a folder in 13 s, with a peak of 1.08 times
the folder, most of it pages of the file (measured on 2 cores with random weights).

Source: microsoft/unilm kosmos-2: unilm/models/{unigpt,gpt,connector}.py, unilm/models/vl/clip.py.
"""

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kosmos.config import replace
from kosmos.document.layout import INFERENCE
from kosmos.errors import CheckpointError, ConfigError
from kosmos.files import Json
from kosmos.image.config import ImageConfig
from kosmos.model.config import ConnectorConfig, DecoderConfig, ModelConfig, VisionConfig
from kosmos.text.tokenizer import Tokenizer
from kosmos.weights.convert import Shape, without_head
from kosmos.weights.loaded import LoadedModel, check_vocabulary, load_tokenizer, load_weights
from kosmos.weights.names import RELEASE, RELEASE_EMBEDDING, RELEASE_HEAD, RELEASE_IGNORED
from kosmos.weights.tensors import StoredTensor
from kosmos.weights.torch_file import fields_of, open_torch_file

TOKENIZER = "sentencepiece.bpe.model"
DICTIONARY = "dict.txt"

HEAD_WIDTH = 64
"""Of the release's decoder and connector, and of open_clip's ViT-B and ViT-L."""

_DECODER = "gpt_model.decoder."
_VISION = "img_model.visual."


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What a checkpoint of the release holds."""

    path: Path
    """The file."""
    config: ModelConfig
    """Shape of the model."""
    stored: dict[str, StoredTensor]
    """Tensors by the release's names, without the head, which is the embedding again."""
    left_out: tuple[str, ...]
    """Tensors that hold no weight of ours, sorted."""
    entries: tuple[str, ...]
    """What the file holds beside the model, sorted; never read."""
    num_updates: int | None
    """Steps it was trained for, if the file says."""


def import_fairseq(
    file: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    tokenizer: Tokenizer | Path | None = None,
) -> LoadedModel:
    """Load a checkpoint of the release. Nothing in the file is run.

    Args:
        file: The ``.pt`` file.
        device: A torch device.
        dtype: ``"float32"`` and so on, or ``"stored"`` for the file's own.
        tokenizer: The release's ``sentencepiece.bpe.model``, which it keeps elsewhere; None for
            one beside the file. With a ``dict.txt`` beside it, the order of ids is compared.

    Raises:
        CheckpointError: If the file is damaged or holds another model, or the tokenizer is
            missing or another.
    """
    path = Path(file)
    release = read_release(path)
    config = release.config
    assert config.vision is not None
    assert config.connector is not None
    beside = [path.parent]
    if not isinstance(tokenizer, Tokenizer):
        found = _tokenizer_file(path, tokenizer)
        beside.append(found.parent)
        tokenizer = load_tokenizer(found, config.decoder.vocab_size)
    check_vocabulary(tokenizer, config, where=str(path))
    for folder in beside:
        if (folder / DICTIONARY).is_file():
            check_dictionary(folder / DICTIONARY, tokenizer)
    return LoadedModel(
        model=load_weights(
            config,
            release.stored,
            where=str(path),
            table=RELEASE,
            ignored=RELEASE_IGNORED,
            device=device,
            dtype=dtype,
        ),
        tokenizer=tokenizer,
        image=ImageConfig(size=config.vision.image_size),
        layout=replace(INFERENCE, {"num_image_tokens": config.connector.num_queries}),
        provenance=_provenance(release),
    )


def read_release(path: Path) -> Release:
    """Read everything but the weights.

    Raises:
        CheckpointError: If the file is damaged, is another model's, or says that its model
            computes what ours does not.
    """
    file = open_torch_file(path)
    content = fields_of(file.content)
    values = fields_of(content.get("model"))
    if not values:
        raise CheckpointError(
            f"{path}: expected a fairseq checkpoint, with tensors under 'model', found "
            + (f"{', '.join(map(repr, sorted(content)[:4]))}" if content else "something else"),
            hint="kosmos weights import reads the release's .pt, and folders of Hugging Face",
        )
    stored = file.tensors(values)
    if len(stored) < len(values):
        odd = min(values.keys() - stored.keys())
        raise CheckpointError(
            f"{path}: {odd}: expected a tensor, found {reprlib.repr(values[odd])}"
        )
    weights = without_head(stored, embedding=RELEASE_EMBEDDING, head=RELEASE_HEAD)
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    try:
        config = _read_config(shapes, _arguments(content), where=str(path))
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error.message}", hint=error.hint) from error
    except TypeError as error:
        raise CheckpointError(f"{path}: cfg: expected numbers, found {error}") from error
    patterns = (*RELEASE_IGNORED, re.escape(RELEASE_HEAD))
    return Release(
        path=path,
        config=config,
        stored=weights,
        left_out=tuple(sorted(n for n in stored if any(re.fullmatch(p, n) for p in patterns))),
        entries=tuple(sorted(content.keys() - {"model"})),
        num_updates=_num_updates(content),
    )


def check_dictionary(file: Path, tokenizer: Tokenizer) -> None:
    """Fail unless a ``dict.txt`` of the release has the tokenizer's pieces in the order of ids.

    Raises:
        CheckpointError: If it has not, naming the first line that differs.
    """
    # not by splitlines: pieces may be characters that it takes for ends of lines
    lines = file.read_bytes().decode(errors="replace").removesuffix("\n").split("\n")
    theirs = [line.rpartition(" ")[0] for line in lines]
    vocabulary = tokenizer.vocabulary
    ours = [tokenizer.token(token_id) for token_id in range(4, vocabulary.mask_id)]
    if theirs == ours:
        return
    pairs = zip(theirs, ours, strict=False)
    number = next((n for n, (their, our) in enumerate(pairs) if their != our), None)
    raise CheckpointError(
        f"{file}: expected the tokenizer's {len(ours)} pieces in order, found "
        + (
            f"{len(theirs)}"
            if number is None
            else f"{theirs[number]!r} instead of {ours[number]!r} in line {number + 1}"
        ),
        hint="the tokenizer belongs to another model; ids would mean other words",
    )


def _read_config(
    shapes: Mapping[str, Shape], arguments: Mapping[str, Any], *, where: str
) -> ModelConfig:
    """Sizes from the tensors, the rest from the arguments."""

    def shape(name: str, num_axes: int) -> Shape:
        found = shapes.get(name)
        if found is None or len(found) != num_axes:
            raise CheckpointError(
                f"{where}: expected the tensors of KOSMOS-2, found "
                + (f"no {name}" if found is None else f"{name} of shape {list(found)}"),
                hint="this is another model's checkpoint, or one without its vision tower",
            )
        return found

    vocab_size, width = shape(RELEASE_EMBEDDING, 2)
    vision_width, _, patch_size, _ = shape(f"{_VISION}conv1.weight", 4)
    num_positions, _ = shape(f"{_VISION}positional_embedding", 2)
    num_queries, _ = shape("img_connector.latent_query", 2)
    _refuse(arguments, where)
    num_heads = arguments.get("decoder_attention_heads") or _num_heads(width, "decoder")
    dropout = arguments.get("attention_dropout", 0.1)
    return ModelConfig(
        decoder=DecoderConfig(
            vocab_size=vocab_size,
            width=width,
            num_layers=_num_layers(shapes, f"{_DECODER}layers."),
            num_heads=num_heads,
            ffn_width=shape(f"{_DECODER}layers.0.ffn.fc1.weight", 2)[0],
            max_tokens=arguments.get("max_target_positions")
            or arguments.get("tokens_per_sample", 2048),
            activation=arguments.get("activation_fn", "gelu"),
            scale_embedding=not arguments.get("no_scale_embedding", False),
            dropout=arguments.get("dropout", 0.1),
            attention_dropout=0.0 if arguments.get("flash_attention", True) else dropout,
        ),
        vision=VisionConfig(
            # rounded, so that a table of positions that is no square fails by its shape
            image_size=round(max(num_positions - 1, 1) ** 0.5) * patch_size,
            patch_size=patch_size,
            width=vision_width,
            num_layers=_num_layers(shapes, f"{_VISION}transformer.resblocks."),
            num_heads=_num_heads(vision_width, "vision"),
            ffn_width=shape(f"{_VISION}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
            activation=_vision_activation(arguments),
        ),
        connector=ConnectorConfig(
            num_queries=num_queries, num_heads=num_heads, width=width, attention_dropout=dropout
        ),
    )


def _refuse(arguments: Mapping[str, Any], where: str) -> None:
    """Fail on an argument that changes what the model computes, and no tensor's name or shape."""
    tower = str(arguments.get("visual_model_name", "ViT-L-14"))
    problems = {
        "no_token_positional_embeddings": bool(arguments.get("no_token_positional_embeddings")),
        "activation_fn": arguments.get("activation_fn", "gelu") not in ("gelu", "relu"),
        # heads of the larger towers are wider
        "visual_model_name": not tower.startswith(("ViT-B", "ViT-L")),
    }
    for name, is_other in problems.items():
        if is_other:
            raise CheckpointError(
                f"{where}: {name}: expected a model as the release's, found {arguments[name]!r}"
            )


def _vision_activation(arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The release takes OpenAI's activation for every ViT-L, and its name's for the others."""
    tower = str(arguments.get("visual_model_name", "ViT-L-14"))
    return "quick_gelu" if tower.startswith("ViT-L") or "quickgelu" in tower else "gelu"


def _num_heads(width: int, part: str) -> int:
    if width % HEAD_WIDTH:
        raise ConfigError(
            f"{part}.num_heads: expected heads of {HEAD_WIDTH} as the release's, "
            f"found a width of {width}"
        )
    return width // HEAD_WIDTH


def _num_layers(shapes: Mapping[str, Shape], prefix: str) -> int:
    """Layers with a tensor; where one is missing in between, the strict reader names it."""
    indices = [re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in shapes]
    return max((int(index[1]) + 1 for index in indices if index), default=0)


def _arguments(content: Mapping[str, object]) -> dict[str, Any]:
    """Of the model and its task: plain values by fairseq's names. None means not said."""
    sections = fields_of(content.get("cfg"))
    found = {
        **fields_of(content.get("args")),
        **fields_of(sections.get("task")),
        **fields_of(sections.get("model")),
    }
    return {n: v for n, v in found.items() if isinstance(v, bool | int | float | str)}


def _num_updates(content: Mapping[str, object]) -> int | None:
    history = content.get("optimizer_history")
    last = fields_of(history[-1]) if isinstance(history, list) and history else {}
    updates = last.get("num_updates")
    return updates if isinstance(updates, int) else None


def _tokenizer_file(path: Path, given: Path | None) -> Path:
    file = given or path.parent / TOKENIZER
    if not file.is_file():
        raise CheckpointError(
            f"{file}: expected the release's {TOKENIZER}, found nothing there",
            hint="it is in kosmos-2/data of microsoft/unilm; name it with --tokenizer or "
            "tokenizer=",
        )
    return file


def _provenance(release: Release) -> Json:
    return {
        "imported_from": "fairseq",
        "file": release.path.name,
        "num_updates": release.num_updates,
        "left_out": list(release.left_out),
        "entries_left_out": list(release.entries),
        # what its own scripts decode with; an export to Hugging Face says so too
        "generation": {"no_repeat_ngram_size": 3},
    }
