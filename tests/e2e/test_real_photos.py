"""Fine-tuning on real photos, as docs/guides/finetune.md says, from import to a merged model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kosmos.document.shards import ShardReader
from kosmos.document.types import Text
from kosmos.files import read_json, read_jsonl

pytest.importorskip("peft")
pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[2]
# the merged model is made of the first, and the others go the same way
KINDS = ("captions", "questions")
# the start model with one narrow layer of each kind, so that a step takes no time
SHRUNK = {
    "model.decoder.num_layers": 1,
    "model.decoder.ffn_width": 64,
    "model.vision.width": 24,
    "model.vision.num_layers": 1,
    "model.vision.ffn_width": 48,
    "train.warmup_steps": 1,
    "data.heldout_sequences": 4,
}


@pytest.fixture(scope="module")
def tuned(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the script left and said."""
    out = tmp_path_factory.mktemp("photos")
    script = [sys.executable, ROOT / "experiments" / "finetuning.py", shared_data, out]
    sets = [word for name, value in SHRUNK.items() for word in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [*script, "--base-steps", "1", "--steps", "2", "--kinds", *KINDS, *sets],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=out,
        capture_output=True,
        text=True,
        check=False,
    )
    # every held-out loss fell, and three ways to the merged model lead to the same one
    assert done.returncode == 0, done.stderr[-4000:]
    return out, done.stdout


@pytest.mark.slow
def test_every_kind_of_data_is_learned_from_with_all_weights_and_with_an_adapter(
    tuned: tuple[Path, str],
) -> None:
    out, said = tuned
    for kind in KINDS:
        for recipe in ("finetune", "finetune-lora"):
            assert f"| {kind} | {recipe} | " in said
            rows = read_jsonl(out / "runs" / f"{kind}-{recipe}" / "metrics.jsonl")
            steps = [r["step"] for r in rows if isinstance(r, dict) and r["kind"] == "heldout"]
            assert steps == [0, 1, 2]
    assert said.count("the same model") == 2


@pytest.mark.slow
def test_what_a_run_takes_from_its_folder_is_recorded(tuned: tuple[Path, str]) -> None:
    out, _ = tuned
    record = read_json(out / "runs" / "questions-finetune-lora" / "run.json")
    base = read_json(out / "base" / "model" / "config.json")
    assert isinstance(record, dict)
    assert isinstance(base, dict)
    assert record["run"]["model"] == base["model"]  # type: ignore[index, call-overload]
    for part in ("image", "layout"):
        assert record["run"]["data"][part] == base[part]  # type: ignore[index, call-overload]
    assert (
        record["start"]["model.safetensors"]
        == (  # type: ignore[index, call-overload]
            base["weights"]["sha256"]["model.safetensors"]  # type: ignore[index, call-overload]
        )
    )


@pytest.mark.slow
def test_only_answers_carry_loss(tuned: tuple[Path, str]) -> None:
    out, _ = tuned
    docs = ShardReader(out / "corpora" / "questions" / "train")
    assert len(docs) > 100
    for doc in docs:
        asked, answered = (part for part in doc.parts if isinstance(part, Text))
        assert (asked.loss, answered.loss) == (False, True)
        assert answered.text.strip().isdigit()
