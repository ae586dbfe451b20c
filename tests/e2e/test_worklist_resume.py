"""A list of pictures that is killed or interrupted again and again ends as if nothing happened."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from kosmos.files import Json, read_jsonl
from kosmos.weights.folder import save_model
from tests.tiny import tiny_config, tiny_image, tiny_layout, tiny_model, tiny_tokenizer

NUM_PICTURES = 300
OPTIONS = ("--max-new-tokens", "24", "--batch-size", "4")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of random weights, and pictures of which one is none."""
    folder = tmp_path_factory.mktemp("worklist")
    tokenizer = tiny_tokenizer()
    config = tiny_config(vocab_size=tokenizer.vocabulary.size)
    save_model(
        folder / "model",
        model=tiny_model(config),
        tokenizer=tokenizer,
        image=tiny_image(config),
        layout=tiny_layout(config),
        provenance=None,
    )
    rng = np.random.default_rng(0)
    for index in range(NUM_PICTURES):
        path = folder / "photos" / f"{index % 7}" / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    (folder / "photos" / "0" / "bad.png").write_bytes(b"no picture")
    return folder


def start(place: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kosmos", "caption", "--model", str(place / "model")]
    command += ["--images", str(place / "photos"), "--jsonl", str(out), *OPTIONS]
    # the same replies are promised for the same number of threads
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background job ignores Ctrl-C, and so does what it starts
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def stop_after(process: subprocess.Popen[str], out: Path, lines: int, with_signal: int) -> None:
    """Send a signal once the file has grown by some lines."""
    before = num_lines(out)
    while process.poll() is None and num_lines(out) < before + lines:
        time.sleep(0.002)
    process.send_signal(with_signal)


def num_lines(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


def lines(out: Path) -> dict[str, Json]:
    """What each picture got, none of them twice.

    Log-probabilities are left out: they differ by rounding between batches of other pictures.
    """
    rows = [row for row in read_jsonl(out) if isinstance(row, dict)]
    found = {str(row["id"]): (row["token_ids"], row["text"]) for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def uninterrupted(place: Path) -> dict[str, Json]:
    out = place / "uninterrupted.jsonl"
    process = start(place, out)
    _, errors = process.communicate()
    assert process.returncode == 1, errors  # for the bad picture
    assert "1 failed (picture 1)" in errors
    found = lines(out)
    assert len(found) == NUM_PICTURES
    assert len(set(map(str, found.values()))) > 1
    return found


@pytest.mark.slow
def test_a_list_killed_in_the_middle_is_completed_by_the_same_command(
    place: Path, uninterrupted: dict[str, Json]
) -> None:
    out = place / "killed.jsonl"
    for count in (1, 30, 61):
        process = start(place, out)
        stop_after(process, out, count, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert count <= num_lines(out) < NUM_PICTURES
    # and one that was cut in the middle of a line
    with open(out, "ab") as file:
        file.write(b'{"id": "3/122.png", "image": "3/12')
    process = start(place, out)
    _, errors = process.communicate()
    assert process.returncode == 1, errors
    assert lines(out) == uninterrupted
    (bad,) = read_jsonl(place / "killed.jsonl.bad.jsonl")
    assert isinstance(bad, dict)
    assert bad["image"] == "0/bad.png"


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(
    place: Path, uninterrupted: dict[str, Json]
) -> None:
    out = place / "interrupted.jsonl"
    process = start(place, out)
    stop_after(process, out, 20, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "interrupted.jsonl has what is finished; the same command goes on with it" in errors
    assert f"{num_lines(out)} done" in errors
    kept = lines(out)
    assert 20 <= len(kept) < NUM_PICTURES
    process = start(place, out)
    process.communicate()
    assert process.returncode == 1
    assert lines(out) == uninterrupted
