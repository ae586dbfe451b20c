"""Runs that take model, tokenizer, pictures and answers from the folder they start from.

``parts="start"`` asks for it, so that nobody has to name them twice.

- :func:`adopt` fills them in, once, when the recipe is made; run.json has them in full
- :func:`check_start_folder` holds a run against the folder before it trains: what was changed
  since, by ``--set``, in run.json or in the folder, is an error

What a folder says of layout and geometry is how the model is asked. Targets are not laid out so: a
model of the release reads prompts whose stretches are tokenized apart, and learned from captions
into which tags were spliced. So the layout of targets is the run's own, and a run may train on
another geometry, or with other rates of dropout, than the folder's.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kosmos.config import to_json
from kosmos.document.layout import AnswerConfig
from kosmos.errors import ConfigError
from kosmos.files import Json
from kosmos.train.config import Run
from kosmos.weights import huggingface
from kosmos.weights.adapter import is_adapter, read_adapter
from kosmos.weights.folder import load_model
from kosmos.weights.folder_config import TOKENIZER

# rates of dropout, how positions began, and which part of a picture is trained on
_MAY_DIFFER = re.compile(
    r"model\.(.*dropout|vision\.initial_positions)|image\.(geometry|min_visible|max_pixels)"
)


def adopt(run: Run) -> Run:
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
            tokenizer=str(_tokenizer_file(folder)),
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
    theirs, ours = dict(_parts(adopt(run))), dict(_parts(run))
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


def _tokenizer_file(folder: Path) -> Path:
    if is_adapter(folder):
        return _tokenizer_file(read_adapter(folder).base)
    name = huggingface.TOKENIZER if huggingface.is_huggingface(folder) else TOKENIZER
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
