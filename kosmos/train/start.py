"""Starting from another model, as KOSMOS-2 starts from KOSMOS-1.

- :func:`start_from` copies its weights; :func:`check_start` tells beforehand whether they fit
- :func:`with_parts_of_start` takes model, tokenizer, pictures and answers from its folder once,
  when the recipe is made, for runs of ``parts="start"``; run.json has them in full
- :func:`check_start_folder` holds such a run against the folder before it trains: what was changed
  since, by ``--set``, in run.json or in the folder, is an error

What a folder says of layout and geometry is how the model is asked. Targets are not laid out so: a
model of the release reads prompts whose stretches are tokenized apart, and learned from captions
into which tags were spliced. So the layout of targets is the run's own, and a run may train on
another geometry, or with other rates of dropout, than the folder's.

Source: unilm kosmos-2 ``--init-from-file``: tensors of equal shape are copied, the embedding is
extended by fresh rows. Departure: the release drops what does not fit without a word; here it is
an error, and so is a tokenizer whose ids mean other words.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kosmos.config import to_json
from kosmos.document.layout import AnswerConfig
from kosmos.errors import CheckpointError, ConfigError
from kosmos.files import Json
from kosmos.model.config import ModelConfig
from kosmos.model.forms.int8 import is_int8
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.weights import huggingface
from kosmos.weights.adapter import is_adapter, read_adapter
from kosmos.weights.folder import load_model
from kosmos.weights.folder_config import CONFIG, TOKENIZER, read_config
from kosmos.weights.huggingface import is_huggingface
from kosmos.weights.loaded import shape_model

# rates of dropout, how positions began, and which part of a picture is trained on
_MAY_DIFFER = re.compile(
    r"model\.(.*dropout|vision\.initial_positions)|image\.(geometry|min_visible|max_pixels)"
)
_EMBEDDING = "decoder.embedding.weight"

_log = logging.getLogger(__name__)


def start_from(
    model: Kosmos, tokenizer: Tokenizer, folder: Path | str, *, entire: bool = False
) -> None:
    """Copy the weights of a model folder into a model with fresh ones.

    Args:
        model: Parameters that the folder lacks (a vision tower, say) stay as they are, and so do
            the rows of a larger embedding.
        tokenizer: The model's; the folder's must be the same, except that it may have no location
            tokens.
        folder: Ours, a Hugging Face one, or an adapter of one of them.
        entire: Whether nothing of the model may stay as it was.

    Raises:
        CheckpointError: If the folder is quantized, has parameters the model lacks or of another
            shape, or lacks some where none may be fresh.
    """
    loaded = load_model(folder)
    if is_int8(loaded.model):
        raise _quantized(folder)
    wanted, stored = dict(model.named_parameters()), dict(loaded.model.named_parameters())
    _check_fit(folder, loaded.tokenizer, tokenizer, stored, wanted, entire=entire)
    with torch.no_grad():
        for name, value in stored.items():
            if name == _EMBEDDING:
                wanted[name][: len(value)] = value
            else:
                wanted[name].copy_(value)
    fresh, new_rows = _fresh(stored, wanted)
    _log.info(
        "started from %s; fresh: %s and %d rows of the embedding",
        folder,
        ", ".join(fresh) or "nothing",
        new_rows,
    )


def check_start(
    config: ModelConfig, tokenizer: Tokenizer, folder: Path | str, *, entire: bool = False
) -> None:
    """Fail where :func:`start_from` would, without reading a weight of a folder of ours.

    Args:
        config: Shape of the run's model.
        tokenizer: The run's.
        folder: Ours, a Hugging Face one, or an adapter of one of them.
        entire: Whether nothing of the model may stay fresh.

    Raises:
        CheckpointError: As :func:`start_from`, and if a file of the folder is missing.
    """
    path = Path(folder)
    wanted = dict(shape_model(config).named_parameters())
    if not (path / CONFIG).is_file() or is_huggingface(path):
        # its weights are mapped, and most of them stay on the disk
        loaded = load_model(path)
        stored = dict(loaded.model.named_parameters())
        _check_fit(path, loaded.tokenizer, tokenizer, stored, wanted, entire=entire)
        return
    saved, _ = read_config(path)
    if saved.weights.quantization is not None:
        raise _quantized(path)
    missing = [name for name in saved.weights.sha256 if not (path / name).is_file()]
    if missing:
        raise CheckpointError(f"{path / missing[0]}: expected weights, found nothing there")
    theirs = Tokenizer.load(path / TOKENIZER, num_cells=saved.tokenizer.num_cells)
    stored = dict(shape_model(saved.model).named_parameters())
    _check_fit(path, theirs, tokenizer, stored, wanted, entire=entire)


def with_parts_of_start(run: Run) -> Run:
    """The run with the parts of the folder it starts from.

    A run that trains on another part of a picture than it is asked about goes on doing so. The
    longest row of a stream is cut to what the model reads.

    Raises:
        CheckpointError: If ``train.start_from`` is no whole model folder.
    """
    folder = Path(run.train.start_from)
    loaded = load_model(folder, dtype="stored")  # mapped: no weight is read
    model = loaded.model.config
    longest = model.decoder.max_tokens
    image, trained = loaded.image, run.data.image.geometry
    if trained != run.answer_image.geometry:
        image = replace(image, geometry=trained)
    return replace(
        run,
        model=model,
        answers=AnswerConfig.of(loaded.image, loaded.layout),
        data=replace(
            run.data,
            image=image,
            layout=replace(run.data.layout, num_image_tokens=loaded.layout.num_image_tokens),
            tokenizer=str(tokenizer_file(folder)),
            num_cells=loaded.tokenizer.vocabulary.num_cells,
            streams=tuple(
                replace(stream, max_tokens=min(stream.max_tokens, longest))
                for stream in run.data.streams
            ),
        ),
    )


def check_start_folder(run: Run) -> None:
    """Fail unless a run has the folder it needs to start from, and its parts if they are to be.

    Raises:
        ConfigError: If there is no folder, or a part is another than its.
        CheckpointError: If it is no whole model folder.
    """
    if not (run.train.start_from or run.train.fresh or run.parts == "start"):
        tower = ""
        if run.model.vision is not None and run.train.vision != "all":
            tower = "; most of its vision tower would stay at random numbers"
        raise ConfigError(
            f"train.start_from: expected the model that {run.name} continues, found none{tower}",
            hint="--set train.start_from=DIR names its folder; kosmos weights import CLIP DIR "
            "--format clip makes one that has a CLIP tower; --set train.fresh=true begins with "
            "random weights",
        )
    if run.parts == "stated":
        if run.train.adapter is not None and not run.train.start_from:
            raise ConfigError(
                "train.start_from: expected the model that train.adapter adapts, found none",
                hint="--set train.start_from=DIR",
            )
        return
    if not run.train.start_from:
        raise ConfigError(
            "train.start_from: expected a model folder, found none",
            hint="--set train.start_from=DIR names a folder of ours or a Hugging Face Kosmos-2 "
            "one; model, tokenizer, pictures and answers are taken from it",
        )
    theirs, ours = dict(_parts(with_parts_of_start(run))), dict(_parts(run))
    differing = [
        f"{name} is {ours.get(name)!r} and there {theirs.get(name)!r}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name) and not _MAY_DIFFER.fullmatch(name)
    ]
    if differing:
        raise ConfigError(
            f"{run.train.start_from}: expected the parts of the run, found others: "
            f"{'; '.join(differing)}",
            hint="with parts=start they are the folder's: leave them out; parts=stated lets the "
            "run say what they are",
        )


def _check_fit(
    folder: Path | str,
    theirs: Tokenizer,
    ours: Tokenizer,
    stored: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    *,
    entire: bool,
) -> None:
    """Fail unless ids mean the same words and every stored parameter has a place."""
    if theirs.digest != ours.digest:
        raise CheckpointError(
            f"{folder}: expected the run's tokenizer {ours.digest}, found {theirs.digest}",
            hint="rows of the embedding would mean other words; use the folder's tokenizer.model",
        )
    if theirs.vocabulary.num_cells not in (0, ours.vocabulary.num_cells):
        raise CheckpointError(
            f"{folder}: expected {ours.vocabulary.num_cells} or no location cells a side, found "
            f"{theirs.vocabulary.num_cells}"
        )
    if wrong := _misfits(stored, wanted):
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckpointError(
            f"{folder}: expected the weights of the run's model, found {'; '.join(wrong[:5])}{more}"
        )

    fresh, new_rows = _fresh(stored, wanted)
    if entire and (fresh or new_rows):
        raise CheckpointError(
            f"{folder}: expected all weights of the model, found none for "
            f"{', '.join(fresh) or f'{new_rows} rows of the embedding'}",
            hint="an adapter learns beside weights that stay; fresh ones would never learn",
        )


def _fresh(stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[list[str], int]:
    """Parts of the model that nothing is stored for, and rows of the embedding."""
    parts = sorted({name.partition(".")[0] for name in wanted.keys() - stored.keys()})
    return parts, len(wanted[_EMBEDDING]) - len(stored[_EMBEDDING])


def _misfits(stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Stored parameters that have no place, in words; the embedding may have fewer rows."""
    wrong = []
    for name, value in stored.items():
        if name not in wanted:
            wrong.append(f"{name}, which the run's model lacks")
            continue
        shape, place = tuple(value.shape), tuple(wanted[name].shape)
        fits = shape == place
        if name == _EMBEDDING:
            fits = shape[1:] == place[1:] and shape[0] <= place[0]
        if not fits:
            wrong.append(f"{name} of shape {shape} for {place}")
    return wrong


def _quantized(folder: Path | str) -> CheckpointError:
    return CheckpointError(
        f"{folder}: expected floating-point weights, found int8",
        hint="start from the folder it was made from",
    )


def tokenizer_file(folder: Path) -> Path:
    """The SentencePiece model of a model folder, ours, a Hugging Face one or an adapter of one."""
    if is_adapter(folder):
        return tokenizer_file(read_adapter(folder).base)
    name = huggingface.TOKENIZER if is_huggingface(folder) else TOKENIZER
    return folder / name


def _parts(run: Run) -> Iterator[tuple[str, Json]]:
    """Dotted names and values of what is taken from the folder."""
    answers = run.answers or AnswerConfig.of(run.data.image, run.data.layout)
    yield from _leaves("answers", to_json(answers))
    yield from _leaves("image", to_json(run.data.image))
    yield "layout.num_image_tokens", run.data.layout.num_image_tokens
    yield "num_cells", run.data.num_cells
    yield from _leaves("model", to_json(run.model))


def _leaves(name: str, value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{name}.{key}", item)
    else:
        yield name, value
