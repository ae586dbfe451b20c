"""Two steps in each precision, of each position scheme, compiled or not, in one process and two."""

import json
import shutil
from pathlib import Path

import pytest

from kosmos.config import replace, to_json
from kosmos.files import write_json
from tests.distributed.torchrun import torchrun
from tests.tiny_run import make_run

# relative; of losses of 4.7, float32 in another order of summation and bfloat16: 3 times the worst
FLOAT32_TOLERANCE = 3e-7
BFLOAT16_TOLERANCE = 2e-3

# trains a run in every way, and says of each what its losses were and of what type the tables were
# that queries and keys were multiplied by
CHILD = """
import itertools, json, os, sys
from pathlib import Path
from kosmos import config
from kosmos.files import read_json, read_jsonl
from kosmos.model import attention
from kosmos.train.config import Run
from kosmos.train.trainer import train

file, out = map(Path, sys.argv[1:])
base = config.from_json(Run, read_json(file))
rotate, types = attention.rotate, {}

def watched(states, table, **options):
    types[str(table.dtype)] = True
    return rotate(states, table, **options)

attention.rotate = watched
ways = itertools.product(("float32", "bfloat16"), ("xpos", "sinusoidal"), (False, True))
for number, (precision, positions, compiled) in enumerate(ways):
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)  # or they would meet where they did
    name = f"{precision} {positions} {'compiled' if compiled else 'plain'}"
    types.clear()
    fields = {
        "train.precision": precision,
        "model.decoder.positions": positions,
        "train.compile": compiled,
    }
    train(config.replace(base, fields), out=out / name, cache_folder=out / "index")
    losses = [row["loss"] for row in read_jsonl(out / name / "metrics.jsonl")]
    (out / f"{name}.json").write_text(json.dumps({"losses": losses, "types": sorted(types)}))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="needs a C++ compiler"
)
@pytest.mark.parametrize("num_processes", [1, 2])
def test_tables_stay_float32_and_losses_are_close_however_a_run_is_wrapped(
    tmp_path: Path, num_processes: int
) -> None:
    base = make_run(tmp_path)
    (text,) = (stream for stream in base.data.streams if stream.name == "text")
    # each shape is compiled anew: rows of one length, one for each process
    run = replace(
        base,
        {
            "data.streams": (replace(text, {"max_tokens": 10, "max_unusable": 1.0}),),
            "data.micro_batch_tokens": 10,
            "model.decoder.num_layers": 1,
            "model.decoder.dropout": 0.0,
            "train.steps": 2,
            "train.heldout_every": 0,
        },
    )
    file, script, out = tmp_path / "run.json", tmp_path / "child.py", tmp_path / "out"
    write_json(file, to_json(run))
    script.write_text(CHILD)
    out.mkdir()
    torchrun(script, str(file), str(out), num_processes=num_processes)
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert len(found) == 8
    for name, result in found.items():
        precision, positions, _ = name.split()
        assert result["types"] == (["torch.float32"] if positions == "xpos" else []), name
        expected = found[f"float32 {positions} plain"]["losses"]
        tolerance = FLOAT32_TOLERANCE if precision == "float32" else BFLOAT16_TOLERANCE
        assert result["losses"] == pytest.approx(expected, rel=tolerance), name
        is_same = result["losses"] == pytest.approx(expected, rel=FLOAT32_TOLERANCE)
        assert is_same == (precision == "float32"), name
