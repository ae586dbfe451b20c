"""kosmos.card.write, card_facts and card_text: cards of runs in every state."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kosmos.card.write import _compact, _percent, _scientific, write_card
from kosmos.cli.training import leave_card
from kosmos.config import replace
from kosmos.errors import DataError
from kosmos.files import Json, read_json, read_jsonl, write_json, write_jsonl
from kosmos.train.config import Run

Edit = Callable[[dict[str, Json]], None]


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    return folder


def card_of(folder: Path, recipe: Run | None = None) -> str:
    return write_card(folder, recipe=recipe).read_text(encoding="utf-8")


def change_sessions(folder: Path, **changes: Json) -> None:
    (session,) = read_jsonl(folder / "sessions.jsonl")
    assert isinstance(session, dict)
    write_jsonl(folder / "sessions.jsonl", [{**session, **changes}])


def stop(folder: Path, step: int) -> None:
    """As a run that was killed while it wrote a record."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    torn = "\n".join([*kept, lines[-1][:40]])
    (folder / "metrics.jsonl").write_text(torn, encoding="utf-8")
    shutil.rmtree(folder / "model")


def test_a_run_that_is_done_has_a_card(run: Run, finished: Path) -> None:
    card = (finished / "card.md").read_text(encoding="utf-8")
    assert card.startswith("# tiny\n\nFinished: 6 steps, ")
    rows = [row for row in read_jsonl(finished / "metrics.jsonl") if isinstance(row, dict)]
    last = rows[-1]
    assert f"{last['tokens'] / 1e3:.3g}k tokens" in card  # type: ignore[operator]
    for stream in run.data.streams:
        assert re.search(rf"^\| {stream.name} \|( -?[\d.]+ \|| – \|)", card, re.MULTILINE)
    heldout = [row["losses"]["captions"] for row in rows if row["kind"] == "heldout"]  # type: ignore[index, call-overload]
    unigram = last["unigram"]["captions"]  # type: ignore[index, call-overload]
    ends = (
        f"{heldout[-1]:.3f} | {min(heldout):.3f} | {unigram:.3f} | {heldout[-1] - unigram:+.3f} |"
    )
    assert ends in card
    assert "Data is held out of `captions`." in card
    assert "| captions | " in card
    assert "| 30 | 0 | 30 | " in card  # documents, unusable, rows
    # 6 steps of 4 of 30 rows
    assert re.search(r"^\| captions .*\| 0\.80 \|$", card, re.MULTILINE)
    assert "None: every step was finite, and no loss rose far above the usual." in card
    weights = read_json(finished / "model" / "config.json")
    digest = weights["weights"]["sha256"]["model.safetensors"]  # type: ignore[index, call-overload]
    assert f"- [model](model), of step 6: `model.safetensors` SHA-256 `{digest}`" in card
    assert "- checkpoints: step-00000004, step-00000006" in card
    assert f"train {finished}/run.json --out {finished}-again" in card
    assert "--resume" not in card


def test_what_a_card_links_to_is_there_and_pictures_are_well_formed(finished: Path) -> None:
    card = (finished / "card.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", card) if not link.startswith("#")]
    assert {"card/losses.svg", "card/machine.svg", "run.json", "model"} <= set(links)
    for link in links:
        assert (finished / link).exists(), link
    titles = [
        element.text
        for name in ("losses", "machine")
        for element in ElementTree.parse(finished / "card" / f"{name}.svg").iter()
        if element.tag.endswith("text")
    ]
    for title in ("text", "captions", "pages", "Tokens per second", "Gradient norm"):
        assert title in titles


def test_a_card_says_how_the_run_differs_from_its_recipe(run: Run, out: Path) -> None:
    as_it_is, other = card_of(out, run), card_of(out, replace(run, {"train.eps": 1e-8}))
    assert "The recipe `tiny` as it is." in as_it_is
    assert "| `train.eps` | `1e-08` | `1e-06` |" in other
    assert "| setting |" not in card_of(out)
    # of a run that takes them from its start, the model is no change of its own
    taking = replace(run, {"parts": "start", "model.decoder.num_layers": 1, "seed": 9})
    record = read_json(out / "run.json")
    assert isinstance(record, dict)
    write_json(out / "run.json", {**record, "run": {**record["run"], "parts": "start"}})  # type: ignore[dict-item]
    taken = card_of(out, taking)
    assert "| `seed` | `9` | `3` |" in taken
    assert "num_layers" not in taken
    assert "are those of `train.start_from`" in taken


def test_a_run_that_was_stopped_says_how_it_goes_on(out: Path) -> None:
    stop(out, 3)
    card = card_of(out)
    assert card.startswith("# tiny\n\nNot finished: 3 of 6 steps, ")
    assert "- no model yet: the last step is not done" in card
    assert f"train {out}/run.json --out {out} --resume" in card


def test_a_run_that_has_done_nothing_yet_has_a_card_too(out: Path) -> None:
    for name in ("metrics.jsonl", "sessions.jsonl"):
        (out / name).unlink()
    for name in ("model", "checkpoints", "card"):
        shutil.rmtree(out / name)
    card = card_of(out)
    assert card.startswith("# tiny\n\nNo step is done yet.\n")
    assert "Not noted: the run is older than sessions.jsonl." in card
    assert "svg" not in card
    assert not (out / "card").exists()


def test_spikes_and_steps_that_were_not_finite_are_listed_and_marked(out: Path) -> None:
    documents: list[Json] = ["caption-1", "caption|2", "c-3", "c-4", "c-5"]
    spike: dict[str, Json] = {
        "kind": "spike", "step": 4, "data_step": 5, "stream": "captions", "loss": 9.75,
        "usual": 4.5, "documents": documents, "document_losses": [], "document_tokens": [],
    }  # fmt: skip
    whole: dict[str, Json] = {
        "kind": "nonfinite", "step": 6, "data_step": 7, "what": "a gradient of norm nan",
        "stream": "", "documents": [],
    }  # fmt: skip
    calm = ElementTree.parse(out / "card" / "losses.svg")
    write_jsonl(out / "events.jsonl", [spike, whole])
    card = card_of(out)
    assert "1 spike and 1 non-finite micro-batch: see [Events](#events)." in card
    assert (
        "| 4 | captions | loss 9.75, usually 4.5 | `caption-1`, `caption\\|2`, `c-3` and 2 more |"
    ) in card
    assert "| 6 | all | a gradient of norm nan |  |" in card
    assert "--set data.skip_steps='[\"5\"]'" in card
    marked = ElementTree.parse(out / "card" / "losses.svg")
    # a triangle in each panel for what is of no stream, one for the spike, one in the key
    assert num_marks(marked) - num_marks(calm) == 3 + 1 + 1
    write_jsonl(out / "events.jsonl", [spike] * 30)
    assert "30 spikes: see" in (card := card_of(out))
    assert "10 more are in [events.jsonl](events.jsonl)" in card


def num_marks(sheet: "ElementTree.ElementTree[ElementTree.Element]") -> int:
    return sum(element.get("fill") == "#b42318" for element in sheet.iter())


def test_two_processes_and_two_starts_are_told(out: Path) -> None:
    torchrun: list[Json] = ["torchrun", "--nproc-per-node", "2", "-m", "kosmos"]
    change_sessions(
        out, processes=2, threads=1, command=[*torchrun, "train", "tiny", "--out", "a b"]
    )
    card = card_of(out)
    assert ", 2 processes of 1 thread." in card
    assert "`torchrun --nproc-per-node 2 -m kosmos train tiny --out 'a b'`" in card
    assert f"$ torchrun --nproc-per-node 2 -m kosmos train {out}/run.json --out {out}-again" in card
    change_sessions(out, device="NVIDIA H100 80GB HBM3", processes=8)
    assert " on 8 × NVIDIA H100 80GB HBM3." in card_of(out)
    (session,) = read_jsonl(out / "sessions.jsonl")
    assert isinstance(session, dict)
    write_jsonl(out / "sessions.jsonl", [session, {**session, "step": 4}])
    assert len(re.findall(r"^\| 20\d\d-\S+Z \| [04] \|", card_of(out), re.MULTILINE)) == 2


def test_what_a_corpus_lost_is_told_and_an_index_may_be_gone(
    run: Run, out: Path, cache_folder: Path, tmp_path: Path
) -> None:
    indices = tmp_path / "index"
    shutil.copytree(cache_folder, indices)
    record = read_json(out / "run.json")
    digest = record["data"]["captions"]["index"]  # type: ignore[index, call-overload]
    file = indices / f"index-{str(digest)[:32]}" / "index.json"
    index = read_json(file)
    assert isinstance(index, dict)
    lost: dict[str, Json] = {"unusable": {"too long": 7}, "dropped": {"boxes": 3, "phrases": 0}}
    write_json(file, {**index, **lost})
    card = write_card(out, index_folder=indices).read_text(encoding="utf-8")
    assert "- `captions`: 7 too long" in card
    assert "- `captions`: 3 boxes" in card
    assert "phrases" not in card
    card = write_card(out, index_folder=tmp_path / "nowhere").read_text(encoding="utf-8")
    assert len(re.findall(r"^\| (?:text|captions|pages) \| .*( – \|){6}$", card, re.MULTILINE)) == 3


def test_where_there_is_no_run_there_is_no_card_but_training_ends_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DataError, match=r"run.json: expected a JSON file, found nothing there"):
        write_card(tmp_path)
    (tmp_path / "run.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="expected the record of a run, found something else"):
        write_card(tmp_path)
    leave_card(tmp_path, recipe=None)
    (warning,) = (record.message for record in caplog.records if record.levelname == "WARNING")
    assert warning.startswith("the model is there, its card is not: ")
    assert warning.endswith(f"kosmos card {tmp_path}")


def test_ticks_are_short() -> None:
    assert [_compact(v) for v in (0.0, 500.0, 2500.0, 4e6)] == ["0", "500", "2.5k", "4M"]
    assert [_percent(v) for v in (0.0, 0.3, 0.005)] == ["0%", "30%", "0.5%"]
    assert [_scientific(v) for v in (0.0, 2e-4, 1.5e-4)] == ["0", "2e-4", "1.5e-4"]


DAMAGES: dict[str, Callable[[dict[str, Json]], str]] = {
    "torn": lambda row: json.dumps(row)[:40],
    "no JSON": lambda row: "step 4: loss 3.1",
    "half a surrogate": lambda row: json.dumps({**row, "kind": "\\ud800"}),
    "a number": lambda row: "17",
    "a list": lambda row: json.dumps([row]),
    "null": lambda row: "null",
    "words": lambda row: '"step"',
    "an empty object": lambda row: "{}",
    "nested": lambda row: "[" * 2000 + "]" * 2000,
    "NUL": lambda row: "\0" * 50,
}


def damages(row: dict[str, Json]) -> Iterator[str]:
    """A line as a disk, a merge or a person may leave it."""
    yield from (damage(row) for damage in DAMAGES.values())
    for name in row:
        for value in ("", "x", [], {}, [1], {"a": "b"}, True, -1, -2.5, float("nan"), None):
            yield json.dumps({**row, name: value})
        yield json.dumps({key: item for key, item in row.items() if key != name})
        yield json.dumps({**row, name: 10**308})


@pytest.mark.parametrize("log", ["metrics", "sessions", "events"])
def test_damaged_lines_are_counted_and_never_end_a_card(out: Path, log: str) -> None:
    event = {"kind": "spike", "step": 4, "stream": "text", "loss": 9.0, "usual": 2.0}
    write_jsonl(out / "events.jsonl", [{**event, "documents": ["a", "b"]}])
    file = out / f"{log}.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    # of each kind of record one, in the middle where there is one
    chosen = {row.get("kind"): number for number, row in enumerate(rows[: len(rows) // 2 + 1])}
    num_told = num_cards = 0
    for number in chosen.values():
        for line in damages(rows[number]):
            file.write_text("\n".join([*lines[:number], line, *lines[number + 1 :], ""]))
            num_told += f"Damaged, and left out here: 1 line of {log}.jsonl." in card_of(out)
            num_cards += 1
    # what is not asked for may be anything, and what is not known is null
    assert num_told > 0.5 * num_cards
    file.write_text("\n".join(["{", "[]", "3", ""]))
    assert f"Damaged, and left out here: 3 lines of {log}.jsonl." in card_of(out)


def test_a_whole_run_has_no_damaged_lines(finished: Path) -> None:
    assert "Damaged" not in card_of(finished)
