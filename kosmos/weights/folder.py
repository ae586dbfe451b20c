"""Model folders: a model, its tokenizer and its configs, in files that belong together.

::

    model/
    ├── config.json          format version, configs, checksums, provenance
    ├── model.safetensors    weights by our names; above 5 GB in shards with an index
    ├── tokenizer.model      the SentencePiece model
    └── README.md            the model card, written from config.json

A folder appears under its name only when it is whole. Loading checks that its parts fit each
other; every refusal names the file and what was expected.

Quantized weights (``kosmos weights quantize``) have the same names: ``weight`` is int8 in every
linear layer and in the embedding, and beside it stands ``scales``, float32, one for each row.
Such a folder is of version 2, others stay readable to whoever reads version 1.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from kosmos.config import to_json
from kosmos.document.layout import Layout
from kosmos.errors import CheckpointError
from kosmos.files import Json, atomic_folder, sha256_file, write_json, write_text
from kosmos.image.config import ImageConfig
from kosmos.model.config import ModelConfig
from kosmos.model.forms.convert import quantize_model
from kosmos.model.forms.int8 import is_int8
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.weights.adapter import add_adapter, check_base, is_adapter, read_adapter
from kosmos.weights.card import model_card
from kosmos.weights.folder_config import (
    CARD,
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    QUANTIZED_VERSION,
    TOKENIZER,
    FolderConfig,
    TokenizerRecord,
    WeightsRecord,
    check_apart,
    check_model_folder,
    check_parts,
    read_config,
)
from kosmos.weights.huggingface import import_huggingface
from kosmos.weights.huggingface_config import is_huggingface
from kosmos.weights.loaded import (
    LoadedModel,
    as_path,
    check_vocabulary,
    find_device,
    find_dtype,
    load_weights,
    num_parameters,
    tensors_of,
)
from kosmos.weights.tensors import MAX_SHARD_BYTES, list_tensors, write_tensors


def save_model(
    folder: str | Path,
    *,
    model: Kosmos,
    tokenizer: Tokenizer,
    image: ImageConfig,
    layout: Layout,
    provenance: Json,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a model folder; one that is there is replaced when the new one is complete.

    Args:
        folder: Where to.
        model: Saved in the type its weights have.
        tokenizer: Its vocabulary must fit the model.
        image: How pictures become pixels.
        layout: How documents become tokens when the model is used.
        provenance: Where the weights come from: run, data, parents. Goes into the card.
        max_shard_bytes: Larger weights are written as several files.

    Raises:
        CheckpointError: If the parts do not fit each other.
        ConfigError: If something else than a model folder is in the way.
        DataError: If the disk refuses.
    """

    def write(scratch: Path) -> WeightsRecord:
        tensors = tensors_of(model)
        files = write_tensors(scratch, tensors, max_shard_bytes=max_shard_bytes)
        return WeightsRecord(
            dtype=str(model.dtype).removeprefix("torch."),
            num_parameters=num_parameters(tensors),
            sha256={file.name: sha256_file(file) for file in files},
            quantization="int8" if is_int8(model) else None,
        )

    write_folder(
        Path(folder),
        write,
        model=model.config,
        tokenizer=tokenizer,
        image=image,
        layout=layout,
        provenance=provenance,
    )


def write_folder(
    path: Path,
    write_weights: Callable[[Path], WeightsRecord],
    *,
    model: ModelConfig,
    tokenizer: Tokenizer,
    image: ImageConfig,
    layout: Layout,
    provenance: Json,
    check: Callable[[Path], None] = check_model_folder,
) -> None:
    """:func:`save_model` for weights that somebody else writes.

    Args:
        path: Where to.
        write_weights: Writes the weight files into the folder it is given.
        model: Shape of the model.
        tokenizer: As for :func:`save_model`, and so are the rest.
        image: See there.
        layout: See there.
        provenance: See there.
        check: Raises if what is there may not be replaced.

    Raises:
        CheckpointError: As :func:`save_model`, and so are the rest.
        ConfigError: See there.
        DataError: See there.
    """
    check_vocabulary(tokenizer, model, where=str(path))
    check_parts(model, image, layout, where=str(path))
    with atomic_folder(path, check=check) as scratch:
        weights = write_weights(scratch)
        tokenizer.save(scratch / TOKENIZER)
        is_plain = weights.quantization is None
        config = FolderConfig(
            format=FORMAT,
            format_version=FORMAT_VERSION if is_plain else QUANTIZED_VERSION,
            model=model,
            image=image,
            layout=layout,
            tokenizer=TokenizerRecord(
                num_pieces=tokenizer.vocabulary.num_pieces,
                num_cells=tokenizer.vocabulary.num_cells,
                sha256=tokenizer.digest,
            ),
            weights=weights,
        )
        record: Any = to_json(config)
        if is_plain:
            del record["weights"]["quantization"]  # readers of version 1 do not know it
        record["provenance"] = provenance
        write_json(scratch / CONFIG, record)
        write_text(scratch / CARD, model_card(path.name, record))


def load_model(
    folder: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    tokenizer: Tokenizer | Path | None = None,
    quantize: Literal["int8"] | None = None,
) -> LoadedModel:
    """Load a model folder, ours or a Hugging Face Kosmos-2 one, or an adapter folder of ours.

    An adapter is added to the weights of its base.

    Args:
        folder: Where it is.
        device: A torch device.
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"``, ``"float64"``, or ``"stored"`` for
            the file's own.
        tokenizer: Used instead of the folder's, or a SentencePiece model to use instead; for
            Hugging Face folders that have none. Its vocabulary must fit.
        quantize: ``"int8"``: turn the weights into bytes while they are read, a matrix at a time.
            A quantized folder is loaded as it is.

    Raises:
        CheckpointError: If a file is missing, damaged or disagrees with another.
        ConfigError: If the device or the type is unknown or not there.
    """
    if quantize is not None:
        return _load_quantized(folder, device=device, dtype=dtype, tokenizer=tokenizer)
    path = as_path(folder, what="a model")
    if is_adapter(path):
        return load_adapted(path, device=device, dtype=dtype, tokenizer=tokenizer)
    if not (path / CONFIG).is_file():
        raise CheckpointError(
            f"{path / CONFIG}: expected the config of a model folder, found nothing there",
            hint="a model folder is what kosmos train leaves in model/, or a Hugging Face folder",
        )
    if is_huggingface(path):
        return import_huggingface(path, device=device, dtype=dtype, tokenizer=tokenizer)
    config, provenance = read_config(path)
    if tokenizer is None:
        tokenizer = _read_tokenizer(path, config.tokenizer)
    elif isinstance(tokenizer, Path):
        tokenizer = Tokenizer.load(tokenizer, num_cells=config.tokenizer.num_cells)
    check_vocabulary(tokenizer, config.model, where=str(path))
    return LoadedModel(
        model=load_weights(
            config.model,
            list_tensors(path),
            where=str(path),
            device=device,
            dtype=dtype,
            is_quantized=config.weights.quantization is not None,
        ),
        tokenizer=tokenizer,
        image=config.image,
        layout=config.layout,
        provenance=provenance,
    )


def load_adapted(
    folder: str | Path,
    *,
    base: Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    tokenizer: Tokenizer | Path | None = None,
) -> LoadedModel:
    """Load an adapter folder: its base, with the adapter added to the weights.

    Args:
        folder: The adapter.
        base: Where its base is now; None: where it was in training.
        device: As for :func:`load_model`, and so are the rest.
        dtype: See there.
        tokenizer: See there.

    Raises:
        CheckpointError: As :func:`load_model`, and if the base is not the one that was trained on.
    """
    adapter = read_adapter(folder)
    base = base or adapter.base
    check_base(adapter, base)
    loaded = load_model(base, device=device, dtype=dtype, tokenizer=tokenizer)
    add_adapter(loaded.model, adapter)
    return replace(
        loaded,
        image=adapter.record.image,
        layout=adapter.record.layout,
        provenance={"adapter": adapter.provenance, "base": loaded.provenance},
    )


def merge_adapter(
    base: str | Path, adapter: str | Path, target: str | Path, *, dtype: str = "stored"
) -> LoadedModel:
    """Write an adapter and the model it was trained on as one model folder.

    Args:
        base: The model folder, ours or a Hugging Face one.
        adapter: The adapter folder.
        target: Where to; a model folder that is there is replaced.
        dtype: Of the weights; ``"stored"``: as the base has them.

    Returns:
        What was written.

    Raises:
        CheckpointError: As :func:`load_adapted` and :func:`save_model`.
        ConfigError: As :func:`save_model`, and if the target is one of the sources, or in it.
    """
    check_apart(target, base, adapter)
    loaded = load_adapted(adapter, base=as_path(base, what="a model"), dtype=dtype)
    save_model(
        target,
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        image=loaded.image,
        layout=loaded.layout,
        provenance=loaded.provenance,
    )
    return loaded


def _load_quantized(
    folder: str | Path, *, device: str, dtype: str, tokenizer: Tokenizer | Path | None
) -> LoadedModel:
    # first of all, or a wrong device or type would be found after the work
    place, kind = find_device(device), None if dtype == "stored" else find_dtype(dtype)
    # in their own type weights are mapped, and each matrix is given back when it is converted
    loaded = load_model(folder, dtype="stored", tokenizer=tokenizer)
    quantize_model(loaded.model, dtype=kind)
    loaded.model.to(place)
    return loaded


def check_files(folder: Path) -> list[str]:
    """Compare the files of our folder with the checksums in its config, reading all of them.

    Returns:
        What is wrong, a sentence each.
    """
    config, _ = read_config(folder)
    expected = {**config.weights.sha256, TOKENIZER: config.tokenizer.sha256}
    return [
        f"{folder / name}: expected sha256 {digest}, found another"
        for name, digest in expected.items()
        if not (folder / name).is_file() or sha256_file(folder / name) != digest
    ]


def _read_tokenizer(folder: Path, record: TokenizerRecord) -> Tokenizer:
    file = folder / TOKENIZER
    if not file.is_file():
        raise CheckpointError(
            f"{file}: expected the folder's SentencePiece model, found nothing there",
            hint="copy it from where the folder came from, or pass tokenizer=",
        )
    tokenizer = Tokenizer.load(file, num_cells=record.num_cells)
    if tokenizer.digest != record.sha256:
        raise CheckpointError(
            f"{file}: expected sha256 {record.sha256} as in {CONFIG}, found {tokenizer.digest}",
            hint="the tokenizer was replaced or damaged; ids would mean other words",
        )
    return tokenizer
