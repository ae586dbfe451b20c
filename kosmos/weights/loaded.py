"""A model with everything needed to use it, and how it gets its weights without a second copy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kosmos.document.layout import Layout
from kosmos.errors import CheckpointError, ConfigError
from kosmos.files import Json
from kosmos.image.config import ImageConfig
from kosmos.model.config import ModelConfig
from kosmos.model.forms.int8 import shape_int8
from kosmos.model.forms.packed import find_packed
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.weights.convert import match
from kosmos.weights.huggingface_tokenizer import check_added_tokens, read_tokenizer
from kosmos.weights.names import Table
from kosmos.weights.tensors import DTYPES, StoredTensor, take_tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """What a model folder holds."""

    model: Kosmos
    """In evaluation mode."""
    tokenizer: Tokenizer
    """Its vocabulary has as many ids as the model's embedding has rows."""
    image: ImageConfig
    """How pictures become pixels."""
    layout: Layout
    """How documents become tokens when the model is used."""
    provenance: Json = None
    """Where the weights come from, in the words of who saved them."""


def load_weights(
    config: ModelConfig,
    stored: Mapping[str, StoredTensor],
    *,
    where: str,
    table: Table | None = None,
    ignored: Sequence[str] = (),
    device: str = "cpu",
    dtype: str = "float32",
    is_quantized: bool = False,
) -> Kosmos:
    """Build a model around stored tensors.

    The model is shaped on the meta device, without memory, and then given the tensors: mapped if
    they need no change, else read and converted a piece at a time. The peak is the size of the
    weights.

    Args:
        config: Shape of the model.
        stored: Everything the file or folder holds.
        where: Its name, for messages.
        table: Renames our tensors to theirs; None where the names are the same.
        ignored: Patterns of their names that hold none of our weights.
        device: A torch device.
        dtype: A key of :data:`kosmos.weights.tensors.DTYPES`, or ``"stored"`` for the file's own.
        is_quantized: The file holds int8 weights and their scales, which keep their types.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: If the tensors are not exactly those of the config.
        ConfigError: If the device or the type is unknown or not there.
    """
    place = find_device(device)
    model = shape_model(config)
    if is_quantized:
        shape_int8(model)
    wanted = dict(model.named_parameters())
    pairs = match(
        {name: tuple(parameter.shape) for name, parameter in wanted.items()},
        {name: tensor.shape for name, tensor in stored.items()},
        where=where,
        table=table,
        ignored=ignored,
    )
    chosen = {ours: stored[theirs] for ours, theirs in pairs.items()}
    types = _types(dtype, chosen, wanted, where=where)
    tensors: dict[str, Tensor] = {}
    for kind in set(types.values()):
        same = {name: tensor for name, tensor in chosen.items() if types[name] == kind}
        tensors |= take_tensors(same, dtype=kind, device=place)
    # the model has no buffers: positions are computed, not stored
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def shape_model(config: ModelConfig) -> Kosmos:
    """A model on the meta device: names and shapes, no memory, no values."""
    with torch.device("meta"), _NoValues():
        return Kosmos(config)


class _NoValues(TorchFunctionMode):
    """Leaves out the setting of initial values.

    On the meta device it would do nothing, and to do that torch imports its symbolic shape
    machinery, which takes 3 s and 100 MB (measured, torch 2.13).
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        is_filling = func in (Tensor.fill_, Tensor.zero_, Tensor.normal_, Tensor.uniform_)
        if is_filling or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def check_vocabulary(tokenizer: Tokenizer, config: ModelConfig, *, where: str) -> None:
    """Fail unless the tokenizer has one id for each row of the embedding.

    Raises:
        CheckpointError: If they disagree, naming both numbers.
    """
    size, rows = tokenizer.vocabulary.size, config.decoder.vocab_size
    if size != rows:
        vocabulary = tokenizer.vocabulary
        raise CheckpointError(
            f"{where}: expected a tokenizer of {rows} ids as the model has, found {size} "
            f"({vocabulary.num_pieces} pieces, {vocabulary.num_cells} cells a side)",
            hint="the tokenizer belongs to another model",
        )


def load_tokenizer(file: Path, vocab_size: int) -> Tokenizer:
    """A SentencePiece model with the grid that the model's vocabulary leaves room for.

    Args:
        file: The ``.model`` file, or a ``tokenizer.json`` of transformers.
        vocab_size: Rows of the model's embedding.

    Raises:
        CheckpointError: If no grid gives that size, or SentencePiece cannot be that tokenizer.
        DataError: If the file is no SentencePiece model.
    """
    is_json = file.suffix == ".json"
    plain = read_tokenizer(file) if is_json else Tokenizer.load(file, num_cells=0)
    num_pieces = plain.vocabulary.num_pieces
    cells = num_cells_for(num_pieces, vocab_size)
    if cells is None:
        raise CheckpointError(
            f"{file}: expected a vocab_size that its {num_pieces} pieces lead to "
            f"({num_pieces + 7}, or {num_pieces + 13} and the cells of a square grid), "
            f"found {vocab_size}",
            hint="the tokenizer belongs to another model, or the embedding was padded",
        )
    tokenizer = plain.with_grid(cells)
    if is_json:
        check_added_tokens(file, tokenizer.vocabulary)
    return tokenizer


def num_cells_for(num_pieces: int, vocab_size: int) -> int | None:
    """Cells along a side of the location grid, from the size of the vocabulary.

    >>> num_cells_for(64_000, 65_037)
    32

    Returns:
        None if no grid gives that size.
    """
    # <pad>, <mask> and five tags of the documents; with a grid, six more and a token per cell
    rest = vocab_size - num_pieces - 7
    if rest == 0:
        return 0
    cells = round(max(rest - 6, 0) ** 0.5)
    return cells if cells > 0 and cells * cells == rest - 6 else None


def tensors_of(model: Kosmos) -> dict[str, Tensor]:
    """The model's weights by name, to be written.

    Raises:
        ConfigError: If the weights are packed for a processor, and so not there by name.
    """
    packed = find_packed(model)
    if packed is not None:
        raise ConfigError(
            f"{packed}: expected weights that can be saved, found them packed for this processor",
            hint="load the folder with pack=False, or forms.convert.unpack_model(model)",
        )
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def num_parameters(tensors: Mapping[str, Tensor]) -> int:
    """Numbers in a model's weights; the scales of quantized ones are no more of them."""
    return sum(tensor.numel() for name, tensor in tensors.items() if not _is_scale(name))


def find_device(name: str) -> torch.device:
    """A device by its name; ``auto`` is the GPU if there is one, as in training.

    Raises:
        ConfigError: If there is none of that name here, or it does not work.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    there = ["cpu"]
    # one kind of accelerator is there at most: cuda, mps, xpu
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        there += [f"{kind}:{index}" for index in range(torch.accelerator.device_count())]
    if name not in there and f"{name}:0" not in there:
        raise ConfigError(
            f"device: expected one that is here, {', '.join(map(repr, there))}, found {name!r}"
        )
    device = torch.device(name)
    try:
        torch.empty(0, device=device)
    except RuntimeError as error:
        # what follows the first sentence is torch's advice to those who write kernels
        why = str(error).splitlines()[0].partition(". ")[0]
        raise ConfigError(f"device {name!r}: expected one that works, found: {why}") from error
    return device


def _dtype(name: str, stored: Mapping[str, StoredTensor]) -> torch.dtype:
    if name == "stored":
        found = {tensor.dtype for tensor in stored.values()}
        # a file of several types is loaded in the one that holds them all
        return torch.float32 if len(found) > 1 else found.pop()
    return find_dtype(name)


def find_dtype(name: str) -> torch.dtype:
    """A type of weights by its name.

    Raises:
        ConfigError: If weights cannot be of it.
    """
    if name not in DTYPES:
        raise ConfigError(
            f"dtype: expected one of {', '.join(map(repr, DTYPES))} or 'stored', found {name!r}"
        )
    return DTYPES[name]


def _types(
    asked: str,
    stored: Mapping[str, StoredTensor],
    wanted: Mapping[str, Tensor],
    *,
    where: str,
) -> dict[str, torch.dtype]:
    """The type of each tensor in the model: the one asked for, but for quantized weights."""
    for name, tensor in stored.items():
        if (tensor.dtype == torch.int8) != (wanted[name].dtype == torch.int8):
            raise CheckpointError(
                f"{where}: {name}: expected {wanted[name].dtype} as its config implies, "
                f"found {tensor.dtype}"
            )
    fixed = {n: t.dtype for n, t in stored.items() if t.dtype == torch.int8 or _is_scale(n)}
    dtype = _dtype(asked, {name: tensor for name, tensor in stored.items() if name not in fixed})
    return {name: fixed.get(name, dtype) for name in stored}


def _is_scale(name: str) -> bool:
    return name.endswith(".scales")


def as_path(folder: str | Path, *, what: str) -> Path:
    """A folder that exists.

    Raises:
        CheckpointError: If it does not, or is a file.
    """
    path = Path(folder)
    if not path.is_dir():
        hint = None
        if path.suffix == ".pt" and path.exists():
            hint = "kosmos weights import makes a model folder of the release's .pt"
        elif len(path.parts) == 2 and not path.parent.exists():  # as on the hub
            hint = (
                "nothing is fetched unasked; for a model of the Hugging Face hub, `hf download "
                f"{path} --local-dir {path.name}` makes the folder that --model takes"
            )
        raise CheckpointError(
            f"{path}: expected a folder with {what}, found "
            + ("a file" if path.exists() else "nothing there"),
            hint=hint,
        )
    return path
