"""A mapped model that is packed is in memory once, the table it looks words up in left out."""

import re
import subprocess
import sys

import pytest
import torch

from kosmos.config import replace
from kosmos.model.forms.packed import can_pack
from kosmos.weights.loaded import tensors_of
from kosmos.weights.tensors import write_tensors
from tests.tiny import tiny_config, tiny_model

CHANGES = {"decoder.width": 512, "decoder.ffn_width": 2048, "decoder.num_layers": 8}
CONFIG = replace(tiny_config(vocab_size=40_000, vision=False), CHANGES)

_PEAK = """
import re, sys
from pathlib import Path
import torch
from kosmos.model.forms.convert import pack_model
from kosmos.weights.loaded import load_weights
from kosmos.weights.tensors import list_tensors
from tests.unit.weights.test_packing import CONFIG
def size(what):
    status = Path("/proc/self/status").read_text()
    return int(re.search(what + r":\\s+(\\d+) kB", status)[1]) * 1024
torch.ops.mkldnn._reorder_linear_weight(torch.zeros(512, 512), 83)
with torch.inference_mode():
    before = size("VmRSS")
    model = load_weights(CONFIG, list_tensors(Path(sys.argv[1])), where="model")
    mapped = size("VmHWM") - before
    packed = pack_model(model)
    model.logits(model(torch.tensor([[0, 5, 6, 7]])))
    print(packed, mapped, size("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and pages out")
@pytest.mark.skipif(not can_pack(torch.zeros(512, 512)), reason="torch is built without oneDNN")
def test_packing_takes_the_size_of_the_weights_and_a_matrix(tmp_path):
    model = tiny_model(CONFIG)
    size = sum(parameter.nbytes for parameter in model.parameters())
    write_tensors(tmp_path, tensors_of(model))
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, tmp_path], capture_output=True, text=True, check=True
    )
    packed, mapped, peak = (int(number) for number in re.findall(r"\d+", done.stdout))
    assert packed == 8 * 6 + 1
    assert mapped < 0.2 * size
    # the table of 82 MB is half of these weights; worst seen is 1.07
    assert peak < 1.2 * size
