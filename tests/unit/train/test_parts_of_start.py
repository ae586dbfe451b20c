"""kosmos.train.start: what a run takes from the folder it starts from, and may not change."""

from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from kosmos.boxes import Box
from kosmos.config import replace, to_json
from kosmos.document.encode import encode
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import CheckpointError, ConfigError
from kosmos.files import read_json, write_json
from kosmos.findings import raise_first_error
from kosmos.recipes.table import make_run
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.train.start import start_folder_rules
from kosmos.train.trainer import train
from kosmos.weights.folder import save_model
from kosmos.weights.huggingface import export_huggingface, import_huggingface
from kosmos.weights.loaded import LoadedModel
from tests.tiny import tiny_config, tiny_image, tiny_layout, tiny_model, tiny_tokenizer

RECIPES = ("finetune", "finetune-lora")


@pytest.fixture
def loaded() -> LoadedModel:
    """A model with dropout, of the kind transformers can be."""
    tokenizer = tiny_tokenizer()
    config = tiny_config(vocab_size=tokenizer.vocabulary.size)
    config = replace_fields(config, decoder=replace_fields(config.decoder, dropout=0.25))
    image = replace_fields(tiny_image(config), geometry="square", mean=(0.5, 0.5, 0.5))
    return LoadedModel(
        model=tiny_model(config), tokenizer=tokenizer, image=image, layout=tiny_layout(config)
    )


@pytest.fixture
def folder(loaded: LoadedModel, tmp_path: Path) -> Path:
    """Its folder."""
    save_model(
        tmp_path / "base",
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        image=loaded.image,
        layout=loaded.layout,
        provenance=None,
    )
    return tmp_path / "base"


def of(folder: Path, *more: str, recipe: str = "finetune") -> Run:
    return make_run(recipe, [f"train.start_from={folder}", *more])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_takes_its_parts_from_the_folder(
    recipe: str, loaded: LoadedModel, folder: Path
) -> None:
    run = of(folder, recipe=recipe)
    assert run.model == loaded.model.config
    assert run.data.image == loaded.image
    assert (run.answer_image, run.answer_layout) == (loaded.image, loaded.layout)
    assert (
        Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells).digest
        == loaded.tokenizer.digest
    )
    assert run.data.streams[0].max_tokens == loaded.model.config.decoder.max_tokens
    raise_first_error(start_folder_rules(run))


def test_a_hugging_face_folder_gives_the_same_parts(
    loaded: LoadedModel, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    export_huggingface(loaded, tmp_path / "theirs")
    ours, theirs = of(folder), of(tmp_path / "theirs")
    reread = import_huggingface(tmp_path / "theirs")
    assert theirs.model == reread.model.config
    assert (theirs.data.image, theirs.data.layout, theirs.data.num_cells) == (
        ours.data.image,
        ours.data.layout,
        ours.data.num_cells,
    )
    raise_first_error(start_folder_rules(theirs))


def test_changes_are_applied_to_what_the_folder_has(folder: Path) -> None:
    run = of(folder, "model.decoder.dropout=0.0", "train.steps=30")
    assert (run.model.decoder.dropout, run.train.steps) == (0.0, 30)
    assert run.model.decoder.width == 32
    raise_first_error(start_folder_rules(run))  # another rate of dropout is no other model


@pytest.mark.parametrize(
    "change",
    [
        *("model.decoder.num_heads=2", "image.mean=[0.1,0.1,0.1]"),
        *("answers.rounding=release", "answers.geometry=center-crop"),
    ],
)
def test_a_part_that_is_not_the_folders_is_an_error(folder: Path, change: str) -> None:
    name = change.partition("=")[0]
    with pytest.raises(ConfigError, match=f"found others: {name} is ") as caught:
        raise_first_error(start_folder_rules(of(folder, change)))
    assert caught.value.hint is not None
    assert "parts=stated" in caught.value.hint


def encoded(run: Run, parts: list[Text | Grounded], *, complete: bool) -> list[int]:
    """A document as targets of a run, or as the prompt of what it leaves."""
    tokenizer = tiny_tokenizer(num_cells=32)
    picture = np.zeros((40, 40, 3), np.uint8)
    found = encode(
        Document([Image(picture), *parts]),
        tokenizer,
        layout=run.data.layout if complete else run.answer_layout,
        image=run.data.image if complete else run.answer_image,
        complete=complete,
    )
    return found.token_ids.tolist()


@pytest.fixture
def released(loaded: LoadedModel, tmp_path: Path) -> Path:
    """A folder as an import of the released checkpoint leaves it, with its grid of 32 cells."""
    tokenizer = tiny_tokenizer(num_cells=32)
    config = loaded.model.config
    decoder = replace_fields(config.decoder, vocab_size=tokenizer.vocabulary.size)
    config = replace_fields(config, decoder=decoder)
    model = LoadedModel(
        model=tiny_model(config),
        tokenizer=tokenizer,
        image=loaded.image,
        layout=loaded.layout,
    )
    pytest.importorskip("transformers")
    export_huggingface(model, tmp_path / "released")
    return tmp_path / "released"


def test_targets_round_as_the_release_and_prompts_as_the_folder_does(
    released: Path,
) -> None:
    run = of(released)
    raise_first_error(start_folder_rules(run))
    parts: list[Text | Grounded] = [Grounded("a dog", [Box(0.1, 0.1, 0.5, 0.5)])]
    vocabulary = tiny_tokenizer(num_cells=32).vocabulary
    for complete, expected in ((True, [99, 528]), (False, [99, 495])):
        ids = encoded(run, parts, complete=complete)
        first = vocabulary.location_id(0)
        locations = [id_ - first for id_ in ids if first <= id_ < first + 32 * 32]
        assert locations == expected


def test_tags_are_spliced_into_the_targets_of_an_imported_checkpoint(
    released: Path,
) -> None:
    run = of(released)
    box = [Box(0.1, 0.1, 0.5, 0.5)]
    parts: list[Text | Grounded] = [
        Grounded("A red dog", box),
        Text(", and "),
        Grounded("a cat", box),
        Text("."),
    ]
    tokenizer = tiny_tokenizer(num_cells=32)
    whole = tokenizer.encode("A red dog, and a cat.")
    words = [id_ for id_ in encoded(run, parts, complete=True) if id_ in set(whole)]
    assert words == whole
    apart = [id_ for id_ in encoded(run, parts, complete=False) if id_ in set(whole)]
    assert len(apart) > len(whole)  # a blank before the comma, and one before the full stop


@pytest.mark.parametrize(
    "change", ["layout.spans=splice", "layout.spans=separate", "image.geometry=center-crop"]
)
def test_targets_may_be_laid_out_otherwise_and_answers_stay_the_folders(
    loaded: LoadedModel, folder: Path, change: str
) -> None:
    run = of(folder, change)
    raise_first_error(start_folder_rules(run))
    assert (run.answer_image, run.answer_layout) == (loaded.image, loaded.layout)


@pytest.mark.parametrize("geometry", ["square", "center-crop"])
def test_pictures_are_trained_on_as_the_recipe_says_or_as_the_folder_is_asked(
    loaded: LoadedModel, tmp_path: Path, geometry: Literal["square", "center-crop"]
) -> None:
    save_model(
        tmp_path / "base",
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        image=replace_fields(loaded.image, geometry=geometry),
        layout=loaded.layout,
        provenance=None,
    )
    tuned = of(tmp_path / "base")
    assert tuned.data.image == tuned.answer_image
    assert tuned.answer_image.geometry == geometry
    paper = of(tmp_path / "base", "parts=start", recipe="kosmos2-instruct")
    assert paper.data.image.geometry == "center-crop"  # whatever it is asked about
    assert paper.answer_image.geometry == geometry
    raise_first_error(start_folder_rules(paper))


def test_a_run_recorded_before_answers_were_stated_goes_on(
    loaded: LoadedModel, folder: Path
) -> None:
    # its targets had the folder's layout
    before = replace(of(folder), {"answers": None, "data.layout": loaded.layout})
    raise_first_error(start_folder_rules(before))


def test_a_recorded_run_is_held_against_the_folder_again(
    run: Run, tmp_path: Path, cache_folder: Path
) -> None:
    brief = replace(run, {"train.steps": 2})
    start = train(brief, out=tmp_path / "start", cache_folder=cache_folder)
    recipe = make_run("finetune", [f"train.start_from={start}", "train.steps=25"])
    tuned = replace(recipe, {"streams": run.data.streams[1:2]})
    train(tuned, out=tmp_path / "out", cache_folder=cache_folder)
    record = read_json(tmp_path / "out" / "run.json")
    assert isinstance(record, dict)
    assert isinstance(record["start"], dict)
    assert set(record["start"]) == {"model.safetensors", "tokenizer.model"}
    again = make_run(str(tmp_path / "out" / "run.json"))
    assert again == tuned
    raise_first_error(start_folder_rules(again))
    fields = read_json(start / "config.json")
    assert isinstance(fields, dict)
    changed = to_json(replace(run.data.image, {"mean": (0.0, 0.0, 0.0)}))
    write_json(start / "config.json", {**fields, "image": changed})
    with pytest.raises(ConfigError, match=r"image\.mean"):
        raise_first_error(start_folder_rules(again))


@pytest.mark.parametrize("recipe", RECIPES)
def test_without_a_folder_a_recipe_is_planned_as_the_released_model_and_not_trained(
    recipe: str, tmp_path: Path
) -> None:
    run = make_run(recipe)
    assert run.model == make_run("kosmos2-released").model
    with pytest.raises(ConfigError, match=r"train\.start_from: expected a model folder"):
        train(run, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        of(tmp_path / "nowhere")


def test_a_run_of_stated_parts_is_held_against_nothing(run: Run) -> None:
    raise_first_error(start_folder_rules(replace(run, {"train.start_from": "nowhere"})))


@pytest.mark.parametrize(
    "name", ["kosmos1", "kosmos2", "kosmos2-released", "kosmos1-instruct", "kosmos2-instruct"]
)
def test_recipes_that_continue_something_do_not_start_from_random_weights(
    name: str, tmp_path: Path
) -> None:
    run = make_run(name)
    with pytest.raises(ConfigError, match=f"expected the model that {name} continues") as error:
        train(run, out=tmp_path / "out")
    assert error.value.hint is not None
    assert "--set train.start_from=DIR" in error.value.hint
    assert not (tmp_path / "out").exists()
    raise_first_error(start_folder_rules(make_run(name, ["train.fresh=true"])))


@pytest.mark.parametrize("name", ["kosmos1-baseline", "kosmos2-baseline", "trial", "microcosm"])
def test_recipes_that_begin_something_need_no_other_model(name: str) -> None:
    raise_first_error(start_folder_rules(make_run(name, ["train.start_from="])))
