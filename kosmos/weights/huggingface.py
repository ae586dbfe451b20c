"""Hugging Face Kosmos-2 folders, in and out.

- :func:`import_huggingface` reads ``config.json``, the weights, ``sentencepiece.bpe.model`` (or,
  where transformers 5 left none, ``tokenizer.json``) and,
  where there are such files, ``preprocessor_config.json`` and ``generation_config.json``
- :func:`export_huggingface` writes a folder that transformers loads offline, model and processor

Importing needs no transformers. Values pass unchanged in both directions; only names differ.
"""

from pathlib import Path

from kosmos.config import replace
from kosmos.document.layout import INFERENCE
from kosmos.errors import CheckpointError
from kosmos.files import Json, atomic_folder, check_replaceable, write_json
from kosmos.image.config import ImageConfig
from kosmos.text.tokenizer import Tokenizer
from kosmos.weights.convert import rename, without_head
from kosmos.weights.folder_config import WEIGHT_FILES
from kosmos.weights.huggingface_config import (
    FIXED_TEXT,
    config_fields,
    image_fields,
    model_fields,
    read_image_config,
    read_model_config,
)
from kosmos.weights.huggingface_tokenizer import write_tokenizer
from kosmos.weights.loaded import (
    LoadedModel,
    as_path,
    check_vocabulary,
    load_tokenizer,
    load_weights,
    tensors_of,
)
from kosmos.weights.names import (
    HUGGINGFACE,
    HUGGINGFACE_EMBEDDING,
    HUGGINGFACE_HEAD,
    HUGGINGFACE_IGNORED,
)
from kosmos.weights.tensors import (
    MAX_SHARD_BYTES,
    StoredTensor,
    list_tensors,
    write_tensors,
)

TOKENIZER = "sentencepiece.bpe.model"
EXPORTED = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    TOKENIZER,
)
"""Files of an export beside its weights."""
# a released model as it was downloaded does not say so, and is not to be replaced
_MADE_BY_US: dict[str, Json] = {"exported_by": "openkosmos"}


def import_huggingface(
    folder: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    tokenizer: Tokenizer | Path | None = None,
) -> LoadedModel:
    """Load a Hugging Face Kosmos-2 folder.

    Args:
        folder: Where it is.
        device: A torch device.
        dtype: ``"float32"`` and so on, or ``"stored"`` for the file's own.
        tokenizer: For a folder without ``sentencepiece.bpe.model`` or ``tokenizer.json``, or such
            a file elsewhere; its vocabulary must fit.

    Raises:
        CheckpointError: If a file is missing, damaged or disagrees with another, or if the model
            is one that ours cannot be.
    """
    path = as_path(folder, what="a Hugging Face Kosmos-2 model")
    fields = config_fields(path / "config.json")
    config = read_model_config(fields, where=str(path / "config.json"))
    assert config.vision is not None
    assert config.connector is not None
    if not isinstance(tokenizer, Tokenizer):
        tokenizer = load_tokenizer(tokenizer or _tokenizer_file(path), config.decoder.vocab_size)
    check_vocabulary(tokenizer, config, where=str(path))
    return LoadedModel(
        model=load_weights(
            config,
            read_stored(path),
            where=str(path),
            table=HUGGINGFACE,
            ignored=HUGGINGFACE_IGNORED,
            device=device,
            dtype=dtype,
        ),
        tokenizer=tokenizer,
        image=_read_image(path, config.vision.image_size),
        layout=replace(INFERENCE, {"num_image_tokens": config.connector.num_queries}),
        provenance={
            "imported_from": "huggingface",
            "folder": path.resolve().name,
            "transformers_version": fields.get("transformers_version"),
            "generation": _read_generation(path, fields),
        },
    )


def export_huggingface(
    loaded: LoadedModel, folder: str | Path, *, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write a folder that ``Kosmos2ForConditionalGeneration`` and ``AutoProcessor`` load.

    The processor's number of image slots is not in any file: call it with
    ``num_image_tokens=`` if the model's differs from 64.

    Args:
        loaded: Model, tokenizer and preprocessing.
        folder: Where to; an earlier export that is there is replaced.
        max_shard_bytes: Larger weights are written as several files.

    Raises:
        CheckpointError: If Hugging Face's Kosmos-2 cannot be this model.
        ConfigError: If something else than an earlier export is in the way.
        MissingExtraError: If transformers is not installed; it makes the tokenizer's files.
    """
    model, target = loaded.model, Path(folder)
    fields = model_fields(model.config)
    with atomic_folder(target, check=check_export) as scratch:
        dtype = str(model.head_weight.dtype).removeprefix("torch.")
        write_json(scratch / "config.json", {**fields, "dtype": dtype, **_MADE_BY_US})
        write_json(scratch / "generation_config.json", _generation_fields(loaded.provenance))
        write_json(scratch / "preprocessor_config.json", image_fields(loaded.image))
        cells = loaded.tokenizer.vocabulary.num_cells
        write_json(
            scratch / "processor_config.json",
            {"processor_class": "Kosmos2Processor", "num_patch_index_tokens": cells * cells},
        )
        loaded.tokenizer.save(scratch / TOKENIZER)
        write_tokenizer(scratch, loaded.tokenizer)
        write_tensors(
            scratch,
            {rename(name, HUGGINGFACE): tensor for name, tensor in tensors_of(model).items()},
            max_shard_bytes=max_shard_bytes,
        )


def check_export(folder: Path) -> None:
    """Fail unless a folder may be replaced: it is empty, or an earlier export and no more.

    Raises:
        ConfigError: Naming what lies there.
    """
    check_replaceable(
        folder,
        "an earlier export",
        files=(*EXPORTED, *WEIGHT_FILES),
        is_result=lambda folder: (
            _MADE_BY_US.items() <= config_fields(folder / "config.json").items()
        ),
    )


def read_stored(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a folder with the output head, which is the embedding again, taken out.

    Raises:
        CheckpointError: If there is a head and it is not the embedding.
    """
    return without_head(
        list_tensors(folder), embedding=HUGGINGFACE_EMBEDDING, head=HUGGINGFACE_HEAD
    )


def _tokenizer_file(folder: Path) -> Path:
    for name in (TOKENIZER, "tokenizer.json"):  # transformers 5 saves the second alone
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder}: expected {TOKENIZER} or tokenizer.json, found no tokenizer",
        hint=f"copy {TOKENIZER} from the model this one was made from, or pass tokenizer=",
    )


def _read_image(folder: Path, image_size: int) -> ImageConfig:
    """From the newer processor_config.json if it says, else from preprocessor_config.json."""
    file = folder / "processor_config.json"
    fields = config_fields(file).get("image_processor") if file.is_file() else None
    if not isinstance(fields, dict):
        file = folder / "preprocessor_config.json"
        fields = config_fields(file) if file.is_file() else {}
    return read_image_config(fields, where=str(file), image_size=image_size)


def _read_generation(folder: Path, config: dict[str, Json]) -> Json:
    """How the folder says to generate; kept so that an export says the same."""
    file = folder / "generation_config.json"
    settings = config_fields(file) if file.is_file() else {}
    text = config.get("text_config")
    # older folders keep this one in the text config, where newer versions no longer look
    if isinstance(text, dict) and text.get("no_repeat_ngram_size"):
        settings.setdefault("no_repeat_ngram_size", text["no_repeat_ngram_size"])
    return {name: value for name, value in settings.items() if not name.startswith("_")}


def _generation_fields(provenance: Json) -> dict[str, Json]:
    kept = provenance.get("generation") if isinstance(provenance, dict) else None
    return {
        **(kept if isinstance(kept, dict) else {}),
        **{name: FIXED_TEXT[name] for name in ("bos_token_id", "pad_token_id", "eos_token_id")},
    }
