"""Several processes train what one does: losses, weights, checkpoints, restarts."""

from pathlib import Path

import pytest
import torch

from kosmos.card.write import write_card
from kosmos.config import replace, to_json
from kosmos.document.types import Document, Text
from kosmos.files import Json, read_jsonl, write_json
from kosmos.train.config import Run
from kosmos.train.trainer import train
from kosmos.weights.folder import load_model
from tests.distributed.torchrun import torchrun
from tests.tiny_run import make_run, page_document, write_shards

# float32 sums in another order; 3 times the worst seen over 6 steps of AdamW, of one to four
# processes
LOSS_TOLERANCE = 2e-5
WEIGHT_TOLERANCE = 2e-4

STEPS = 6

# trains a run file; the process of one rank kills itself behind a step, once
CHILD = """
import os, signal, sys
from pathlib import Path
from kosmos.config import from_json
from kosmos.files import read_json
from kosmos.train.config import Run
from kosmos.train.trainer import train

file, out, rank, step = sys.argv[1:]
died = Path(out + ".died")

def kill(record):
    if os.environ["RANK"] == rank and record["step"] == int(step) and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)

train(from_json(Run, read_json(Path(file))), out=Path(out), resume=True, on_step=kill)
"""

# trains several runs one after the other: pairs of a file and a folder
WAYS = """
import os, sys
from pathlib import Path
from kosmos.config import from_json
from kosmos.files import read_json
from kosmos.train.config import Run
from kosmos.train.trainer import train

for number in range(1, len(sys.argv), 2):
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)  # or they would meet where they did
    file, out = map(Path, sys.argv[number : number + 2])
    train(from_json(Run, read_json(file)), out=out)
"""

# trains a run file, but a picture that the last process alone reads in some steps is of no numbers
POISONED = """
import dataclasses, os, sys
from pathlib import Path
import numpy as np
from kosmos.config import from_json
from kosmos.files import read_json
from kosmos.train import trainer
from kosmos.train.config import Run

taken = trainer.training_step
is_last = os.environ.get("RANK", "0") == str(int(os.environ.get("WORLD_SIZE", "1")) - 1)

def step(objective, optimizer, batches, *, step, **options):
    if is_last and step in (3, 5, 6):
        place = max(n for n, b in enumerate(batches) if b.pixels is not None and not b.is_filler)
        pixels = np.full_like(batches[place].pixels, np.nan)
        batches = [*batches]
        batches[place] = dataclasses.replace(batches[place], pixels=pixels)
    return taken(objective, optimizer, batches, step=step, **options)

trainer.training_step = step
file, out = sys.argv[1:]
trainer.train(from_json(Run, read_json(Path(file))), out=Path(out))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Text, captions and pages, some of them without a picture in a micro-batch; with dropout."""
    return make_run(tmp_path_factory.mktemp("distributed"), steps=STEPS)


@pytest.fixture(scope="module")
def alone(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("alone") / "out"
    train(run, out=out)
    return out


def train_on(
    run: Run, out: Path, num_processes: int, *, kill: tuple[int, int] = (-1, -1), restarts: int = 0
) -> Path:
    file, script = out.with_suffix(".json"), out.with_suffix(".py")
    write_json(file, to_json(run))
    script.write_text(CHILD)
    torchrun(
        script,
        *(str(file), str(out), *map(str, kill)),
        num_processes=num_processes,
        max_restarts=restarts,
    )
    return out


def records(out: Path, kind: str) -> list[dict[str, Json]]:
    rows = [row for row in read_jsonl(out / "metrics.jsonl") if isinstance(row, dict)]
    return [row for row in rows if row["kind"] == kind]


def assert_same_run(one: Path, other: Path) -> None:
    """Losses of every step and stream, held-out losses and weights agree."""
    for kind in ("train", "heldout"):
        ours, theirs = records(one, kind), records(other, kind)
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        for row, its in zip(ours, theirs, strict=True):
            assert row["losses"] == pytest.approx(its["losses"], rel=LOSS_TOLERANCE)
            if kind == "train":
                assert row["loss"] == pytest.approx(its["loss"], rel=LOSS_TOLERANCE)
                assert row["grad_norm"] == pytest.approx(its["grad_norm"], rel=1e-3)
                assert row["tokens"] == its["tokens"]
                assert row["num_loss_tokens"] == its["num_loss_tokens"]
    first, second = (load_model(folder / "model").model.state_dict() for folder in (one, other))
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=0, atol=WEIGHT_TOLERANCE)


@pytest.mark.slow
def test_several_processes_train_what_one_does(run: Run, alone: Path, tmp_path: Path) -> None:
    out = train_on(run, tmp_path / "out", 4)
    assert_same_run(out, alone)
    (session,) = read_jsonl(out / "sessions.jsonl")
    assert (session["step"], session["processes"]) == (0, 4)
    assert session["command"][:3] == ["torchrun", "--nproc-per-node", "4"]
    assert ", 4 processes of " in write_card(out).read_text(encoding="utf-8")


@pytest.mark.slow
def test_layers_that_are_computed_again_change_nothing(
    run: Run, alone: Path, tmp_path: Path
) -> None:
    again = replace(run, {"train.recompute": True})
    assert_same_run(train_on(again, tmp_path / "out", 2), alone)


@pytest.mark.slow
def test_a_killed_process_brings_all_back_to_the_last_checkpoint(
    run: Run, alone: Path, tmp_path: Path
) -> None:
    out = train_on(run, tmp_path / "out", 2, kill=(1, 5), restarts=1)
    assert (tmp_path / "out.died").exists()
    assert_same_run(out, alone)


@pytest.mark.slow
def test_another_number_of_processes_goes_on_where_the_first_stopped(
    run: Run, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for num_processes, kill in ((4, (2, 3)), (2, (0, 5))):
        file, script = out.with_suffix(".json"), out.with_suffix(".py")
        write_json(file, to_json(run))
        script.write_text(CHILD)
        (tmp_path / "out.died").unlink(missing_ok=True)
        words = (str(file), str(out), *map(str, kill))
        result = torchrun(script, *words, num_processes=num_processes, check=False)
        assert result.returncode != 0
        assert not (out / "model").exists()
    train(run, out=out, resume=True)
    assert_same_run(out, alone)


@pytest.mark.slow
def test_micro_batches_without_pictures_neither_hang_nor_lose_gradients(
    run: Run, tmp_path: Path
) -> None:
    # every second page has no picture, and a micro-batch is one page: while one process runs its
    # vision tower the other has none to run
    documents = [
        page_document(n) if n % 2 else Document([Text(f"page {n}: a red star.")], id=f"plain-{n}")
        for n in range(12)
    ]
    pages = write_shards(tmp_path / "pages", documents)
    mixed = replace(
        run,
        {
            "streams": tuple(
                replace(stream, {"path": str(pages), "packing": "single", "sequences_per_step": 5})
                for stream in run.data.streams
                if stream.name == "pages"
            ),
            "data.micro_batch_tokens": 1,
            "train.steps": 3,
        },
    )
    script, ways = tmp_path / "ways.py", ("all", "last-layer", "frozen")
    script.write_text(WAYS)
    words: list[str] = []
    for vision in ways:
        one = replace(mixed, {"train.vision": vision})
        train(one, out=tmp_path / f"{vision}-alone")
        write_json(tmp_path / f"{vision}.json", to_json(one))
        words += [str(tmp_path / f"{vision}.json"), str(tmp_path / vision)]
    torchrun(script, *words, num_processes=2)
    for vision in ways:
        assert_same_run(tmp_path / vision, tmp_path / f"{vision}-alone")


@pytest.mark.slow
def test_what_is_not_finite_in_one_process_is_skipped_by_all_and_then_stops_all(
    run: Run, tmp_path: Path
) -> None:
    skipping = replace(run, {"train.nonfinite": "skip", "train.max_nonfinite": 1})
    file, script = tmp_path / "run.json", tmp_path / "poisoned.py"
    write_json(file, to_json(skipping))
    script.write_text(POISONED)
    found = {}
    for size in (1, 2):
        out = tmp_path / f"out{size}"
        result = torchrun(script, str(file), str(out), num_processes=size, check=False)
        assert result.returncode != 0
        # the second in a row is one too many, for every process
        assert result.stderr.count("DataError: step 6: expected finite numbers") == size
        assert not (out / "model").exists()
        events = [row for row in read_jsonl(out / "events.jsonl") if isinstance(row, dict)]
        assert [event["step"] for event in events] == [3, 5, 6]
        assert all(event["stream"] in ("captions", "pages") for event in events)
        assert all(event["documents"] for event in events)
        found[size] = records(out, "train")
        assert [row["step"] for row in found[size] if row["loss"] is None] == [3, 5]
    # a step that is skipped moves no weight in any process: the next has the loss of one alone
    for alone, of_two in zip(found[1], found[2], strict=True):
        assert of_two["losses"] == pytest.approx(alone["losses"], rel=LOSS_TOLERANCE)


@pytest.mark.slow
def test_bfloat16_computes_near_float32_and_keeps_float32_weights(
    run: Run, alone: Path, tmp_path: Path
) -> None:
    half = replace(run, {"train.precision": "bfloat16"})
    out = train_on(half, tmp_path / "out", 2)
    for row, its in zip(records(out, "train"), records(alone, "train"), strict=True):
        # bfloat16 has 8 bits: 0.4% a rounding; 3 times the worst seen
        assert row["loss"] == pytest.approx(its["loss"], rel=0.02)
        assert row["loss"] != its["loss"]
    assert load_model(out / "model").model.dtype == torch.float32
