"""Starting from another model, as KOSMOS-2 starts from KOSMOS-1.

- :func:`start_from` copies its weights; :func:`start_rules` say beforehand whether they fit
- :func:`with_parts_of_start` takes model, tokenizer, pictures and answers from its folder once,
  when the recipe is made, for runs of ``parts="start"``; run.json has them in full
- :func:`start_folder_rules` hold such a run against the folder before it trains: what was changed
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
from kosmos.errors import CheckpointError, KosmosError
from kosmos.files import Json
from kosmos.findings import Finding, finding_of, raise_first_error
from kosmos.model.forms.int8 import is_int8
from kosmos.model.kosmos import Kosmos
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.weights import huggingface
from kosmos.weights.adapter import is_adapter, read_adapter
from kosmos.weights.folder import load_model
from kosmos.weights.folder_config import CONFIG, TOKENIZER, read_config
from kosmos.weights.huggingface_config import is_huggingface
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
    raise_first_error(
        _fit_rules(folder, loaded.tokenizer, tokenizer, stored, wanted, entire=entire)
    )
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


def start_rules(run: Run, tokenizer: Tokenizer) -> Iterator[Finding]:
    """:func:`start_from` can do its work; no weight of a folder of ours is read.

    Beside that, a tower that does not learn is in the folder, or its random numbers are meant.
    """
    if not run.train.start_from:
        return
    path, entire = Path(run.train.start_from), run.train.adapter is not None
    wanted = dict(shape_model(run.model).named_parameters())
    try:
        theirs, stored = _stored(path)
    except KosmosError as error:
        yield finding_of(error)
        return
    yield from _fit_rules(path, theirs, tokenizer, stored, wanted, entire=entire)
    fresh, _ = _fresh(stored, wanted)
    if "vision" in fresh and run.train.vision != "all" and not (run.train.fresh or entire):
        yield Finding(
            severity="error",
            where=str(path),
            what=f"expected a vision tower, which train.vision={run.train.vision!r} leaves as it "
            "is, found none",
            error=CheckpointError,
            hint="a folder with a trained tower; or --set train.vision=all trains it; or "
            "--set train.fresh=true: its random numbers are meant",
        )


def _stored(path: Path) -> tuple[Tokenizer, Mapping[str, Tensor]]:
    """Tokenizer and parameters of a folder, without their values where it is ours."""
    if not (path / CONFIG).is_file() or is_huggingface(path):
        # its weights are mapped, and most of them stay on the disk
        loaded = load_model(path)
        return loaded.tokenizer, dict(loaded.model.named_parameters())
    saved, _ = read_config(path)
    if saved.weights.quantization is not None:
        raise _quantized(path)
    missing = [name for name in saved.weights.sha256 if not (path / name).is_file()]
    if missing:
        raise CheckpointError(f"{path / missing[0]}: expected weights, found nothing there")
    theirs = Tokenizer.load(path / TOKENIZER, num_cells=saved.tokenizer.num_cells)
    return theirs, dict(shape_model(saved.model).named_parameters())


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


def start_folder_rules(run: Run) -> Iterator[Finding]:
    """A run has the folder it needs to start from, and its parts if they are to be."""
    train = run.train
    where = "train.start_from"
    if not (train.start_from or train.fresh or run.parts == "start"):
        tower = ""
        if run.model.vision is not None and train.vision != "all":
            tower = "; most of its vision tower would stay at random numbers"
        yield Finding(
            severity="error",
            where=where,
            what=f"expected the model that {run.name} continues, found none{tower}",
            hint="--set train.start_from=DIR names its folder; kosmos weights import CLIP DIR "
            "--format clip makes one that has a CLIP tower; --set train.fresh=true begins with "
            "random weights",
        )
    elif run.parts == "stated" and train.adapter is not None and not train.start_from:
        yield Finding(
            severity="error",
            where=where,
            what="expected the model that train.adapter adapts, found none",
            hint="--set train.start_from=DIR",
        )
    elif run.parts == "start" and not train.start_from:
        yield Finding(
            severity="error",
            where=where,
            what="expected a model folder, found none",
            hint="--set train.start_from=DIR names a folder of ours or a Hugging Face Kosmos-2 "
            "one; model, tokenizer, pictures and answers are taken from it",
        )
    elif run.parts == "start":
        yield from _parts_rules(run)


def _parts_rules(run: Run) -> Iterator[Finding]:
    """The parts of a run are those of its folder."""
    try:
        theirs, ours = dict(_parts(with_parts_of_start(run))), dict(_parts(run))
    except KosmosError as error:
        yield finding_of(error)
        return
    differing = [
        f"{name} is {ours.get(name)!r} and there {theirs.get(name)!r}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name) and not _MAY_DIFFER.fullmatch(name)
    ]
    if differing:
        yield Finding(
            severity="error",
            where=run.train.start_from,
            what=f"expected the parts of the run, found others: {'; '.join(differing)}",
            hint="with parts=start they are the folder's: leave them out; parts=stated lets the "
            "run say what they are",
        )


def _fit_rules(
    folder: Path | str,
    theirs: Tokenizer,
    ours: Tokenizer,
    stored: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    *,
    entire: bool,
) -> Iterator[Finding]:
    """Ids mean the same words and every stored parameter has a place."""

    def wrong(what: str, hint: str = "") -> Finding:
        where = str(folder)
        return Finding(severity="error", where=where, what=what, hint=hint, error=CheckpointError)

    if theirs.digest != ours.digest:
        yield wrong(
            f"expected the run's tokenizer {ours.digest}, found {theirs.digest}",
            "rows of the embedding would mean other words; use the folder's tokenizer.model",
        )
    num_cells = ours.vocabulary.num_cells
    if theirs.vocabulary.num_cells not in (0, num_cells):
        yield wrong(
            f"expected {num_cells} or no location cells a side, found {theirs.vocabulary.num_cells}"
        )
    if misfits := _misfits(stored, wanted):
        more = f" and {len(misfits) - 5} more" if len(misfits) > 5 else ""
        yield wrong(
            f"expected the weights of the run's model, found {'; '.join(misfits[:5])}{more}"
        )
        return
    fresh, new_rows = _fresh(stored, wanted)
    if entire and (fresh or new_rows):
        yield wrong(
            "expected all weights of the model, found none for "
            f"{', '.join(fresh) or f'{new_rows} rows of the embedding'}",
            "an adapter learns beside weights that stay; fresh ones would never learn",
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
