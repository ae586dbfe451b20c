"""kosmos.check.run."""

from dataclasses import replace
from pathlib import Path

import pytest

from kosmos import config
from kosmos.check.run import check_ready
from kosmos.data.config import Corpus
from kosmos.findings import Finding, Findings
from kosmos.model.config import PRESETS, ModelConfig, with_vocabulary
from kosmos.model.lora import LoraConfig
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.weights.folder import save_model
from kosmos.weights.loaded import shape_model
from tests.tiny_run import caption_document, make_run, text_document, write_shards


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose lengths are what it states."""
    found = make_run(tmp_path_factory.mktemp("ready"))
    for corpus in check_ready(found, Findings()):
        if corpus.rows_per_step:
            stream = f"streams.{corpus.where}"
            found = config.replace(
                found,
                {
                    f"{stream}.tokens_per_sequence": corpus.facts.tokens_per_row,
                    f"{stream}.images_per_sequence": corpus.facts.pictures_per_row,
                },
            )
    return found


def findings_of(run: Run, **values: object) -> list[Finding]:
    findings = Findings()
    check_ready(config.replace(run, values) if values else run, findings)
    return [finding for finding in findings if finding.severity != "note"]


def set_stream(run: Run, name: str, **values: object) -> Run:
    return config.replace(run, {f"streams.{name}.{field}": v for field, v in values.items()})


# the tiny world's pictures have one color and its few sentences come again
_TINY = (
    "pictures of a single color",
    "captions that stood",
    "documents that stood",
    "expected boxes",
)


def problems(run: Run, **values: object) -> list[tuple[str, str, str]]:
    return [
        (finding.severity, finding.where, finding.what)
        for finding in findings_of(run, **values)
        if not finding.what.startswith(_TINY)
    ]


def test_a_run_that_can_start_has_no_problem(run: Run) -> None:
    assert problems(run) == []


def test_every_corpus_is_looked_at_and_told_what_the_run_takes_of_it(run: Run) -> None:
    corpora = {corpus.where: corpus for corpus in check_ready(run, Findings())}
    assert list(corpora) == ["text", "captions", "captions heldout", "pages"]
    captions = corpora["captions"]
    assert (captions.rows_per_step, captions.facts.rows) == (4, 30)
    assert captions.epochs == pytest.approx(run.train.steps * 4 / 30)
    assert corpora["captions heldout"].rows_per_step == 0


@pytest.mark.parametrize("name", ["", "nowhere.model"])
def test_a_tokenizer_that_is_missing_does_not_end_the_check(run: Run, name: str) -> None:
    found = problems(run, tokenizer=name)
    assert [(severity, where) for severity, where, _ in found] == [("error", "tokenizer")]


def test_a_stream_without_a_path_and_one_whose_path_is_wrong_are_both_named(run: Run) -> None:
    broken = set_stream(set_stream(run, "text", path=""), "pages", path="nowhere")
    found = problems(broken)
    assert [(severity, where) for severity, where, _ in found] == [
        ("error", "text"),
        ("error", "pages"),
    ]
    assert "streams.text.path" in found[0][2]
    assert "nowhere" in found[1][2]


def test_an_empty_stream_is_an_error(run: Run, tmp_path: Path) -> None:
    empty = write_shards(tmp_path / "empty", [])
    assert ("error", "text", "expected documents, found none") in problems(
        set_stream(run, "text", path=str(empty))
    )


def test_a_stream_shorter_than_a_step_is_an_error(run: Run) -> None:
    assert (
        "error",
        "captions",
        "expected at least 31 sequences, which one step takes, found 30",
    ) in problems(set_stream(run, "captions", sequences_per_step=31))


def test_a_corpus_shorter_than_its_part_of_a_step_is_an_error(run: Run, tmp_path: Path) -> None:
    few = write_shards(tmp_path / "few", [caption_document(n) for n in range(200, 202)])
    captions = next(stream for stream in run.data.streams if stream.name == "captions")
    corpora = (
        Corpus(name="many", path=captions.path, weight=1.0),
        Corpus(name="few", path=str(few), weight=3.0),
    )
    mixed = set_stream(run, "captions", path="", heldout_path="", corpora=corpora)
    assert (
        "error",
        "captions/few",
        "expected at least 3 sequences, which one step takes, found 2",
    ) in problems(mixed)


def test_lengths_other_than_stated_are_a_warning(run: Run) -> None:
    found = problems(set_stream(run, "pages", images_per_sequence=9.0, tokens_per_sequence=10.0))
    assert [(severity, where) for severity, where, _ in found] == [("warning", "pages")] * 2
    assert "tokens_per_sequence: the run states 10" in found[0][2]
    found = problems(run, stated_tokens_per_step=1e6)
    assert [(severity, where) for severity, where, _ in found] == [("warning", "run")]


def test_documents_longer_than_the_context_are_an_error_above_the_budget(run: Run) -> None:
    # captions are cut as pages are; of these a row holds nothing but the picture
    found = problems(set_stream(run, "captions", max_tokens=8))
    assert ("error", "captions", "too long: expected at most 8 tokens") in found
    finding = next(
        told
        for told in problems(set_stream(run, "captions", max_tokens=30))
        if "max_tokens" not in told[2] and "left out" in told[2]
    )
    assert finding[:2] == ("warning", "captions")
    assert "left out, as ends of documents longer than a row of 30" in finding[2]


def test_heldout_documents_that_are_trained_on_are_an_error(run: Run) -> None:
    captions = next(stream for stream in run.data.streams if stream.name == "captions")
    found = problems(set_stream(run, "captions", heldout_path=captions.path))
    assert (
        "error",
        "captions heldout",
        "documents that are trained on as well, 100.0% of all",
    ) in found


def test_pictures_for_a_model_without_eyes_are_an_error(run: Run) -> None:
    blind = replace(run.model, vision=None, connector=None)
    found = problems(run, model=blind)
    assert (
        "error",
        "captions",
        "expected text alone for a language model, found 30 pictures",
    ) in found


def test_settings_that_do_not_fit_are_an_error_beside_the_others(run: Run) -> None:
    found = problems(run, **{"train.warmup_steps": 10_000, "tokenizer": ""})
    assert [(severity, where) for severity, where, _ in found] == [
        ("error", "tokenizer"),
        ("error", "run"),
    ]


def test_all_that_does_not_fit_is_told_and_not_only_the_first(run: Run) -> None:
    found = problems(run, **{"train.warmup_steps": 10_000, "image.size": 42})
    assert [what.partition(":")[0] for _, where, what in found if where == "run"] == [
        "train.warmup_steps",
        "image.size",
    ]


# --- the model folder it starts from


def save(folder: Path, run: Run, model: ModelConfig, num_cells: int) -> Path:
    save_model(
        folder,
        model=shape_model(model).to_empty(device="cpu"),
        tokenizer=Tokenizer.load(run.data.tokenizer, num_cells=num_cells),
        image=run.data.image,
        layout=run.data.layout,
        provenance=None,
    )
    return folder


def test_a_folder_that_fits_may_be_started_from(run: Run, tmp_path: Path) -> None:
    folder = save(tmp_path / "model", run, run.model, run.data.num_cells)
    assert problems(run, **{"train.start_from": str(folder)}) == []


def test_a_folder_of_another_shape_is_an_error(run: Run, tmp_path: Path) -> None:
    size = run.model.decoder.vocab_size
    wider = with_vocabulary(PRESETS["nano"], size)
    wider = config.replace(wider, {"decoder.ffn_width": wider.decoder.ffn_width * 2})
    folder = save(tmp_path / "model", run, wider, run.data.num_cells)
    found = problems(run, **{"train.start_from": str(folder)})
    assert [(severity, where) for severity, where, _ in found] == [("error", "train.start_from")]
    assert "of shape" in found[0][2]


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "tokenizer.model"])
def test_a_folder_that_lacks_a_file_is_an_error(run: Run, tmp_path: Path, missing: str) -> None:
    folder = save(tmp_path / "model", run, run.model, run.data.num_cells)
    (folder / missing).unlink()
    found = problems(run, **{"train.start_from": str(folder)})
    assert [(severity, where) for severity, where, _ in found] == [("error", "train.start_from")]


def test_an_adapter_needs_all_weights_and_a_recipe_that_takes_parts_its_folder(
    run: Run, tmp_path: Path
) -> None:
    blind = replace(run.model, vision=None, connector=None)
    folder = save(tmp_path / "model", run, blind, run.data.num_cells)
    adapted = {"train.start_from": str(folder), "train.vision": "frozen"}
    found = problems(run, **adapted, **{"train.adapter": LoraConfig()})
    assert [what for _, _, what in found] == [
        f"{folder}: expected all weights of the model, found none for connector, vision"
    ]
    found = problems(run, parts="start", tokenizer="")
    assert [what for _, _, what in found] == ["expected a model folder, found none"]


def test_text_of_lines_longer_than_a_row_is_told(run: Run, tmp_path: Path) -> None:
    long = [text_document(n) for n in range(20)]
    path = write_shards(tmp_path / "long", long)
    found = problems(set_stream(run, "text", path=str(path), max_tokens=12))
    assert any(
        severity == "error" and "left out, as ends of lines longer than a row of 12" in what
        for severity, _, what in found
    )
