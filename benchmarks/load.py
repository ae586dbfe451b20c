"""Loading: from a safetensors file to a model that can be asked; each time a process of its own.

Both sides map the file, so that neither has read it when it is done: what is reported beside the
targets is the first answer, with which the weights are read and laid out. Peaks are the process's
largest resident size, mapped pages included, less what it was before loading. Loaded means ready
to be asked: the model with its tokenizer and preprocessing.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.harness.bench import RATIO, ROOT, Benchmark, Case, Setting, main
from benchmarks.harness.measure import DisagreementError, Target, Times
from kosmos.model.cost import count_parameters
from kosmos.runtime import peak_memory_bytes

PROMPT = "An image of"
BENCHMARK = Benchmark(
    name="load",
    title="load",
    workload="from safetensors",
    peer="HF from_pretrained",
    targets=[
        Target(name=RATIO, bound=0.9),
        Target(name="peak ÷ weights", bound=1.05, at_most=True),
        Target(name="int8 conversion, s", bound=30.0, at_most=True),
        Target(name="int8 peak ÷ weights", bound=1.3, at_most=True),
    ],
    rounds=5,
    on_cuda=False,
)
"""int8 weights are converted by the end of the first answer, whenever that is done before it."""


def prepare(setting: Setting) -> Case:
    """Both load the same folder."""
    weights = count_parameters(setting.config) * 4

    def run(side: str, turn: int = 0) -> dict[str, float]:
        del turn
        command = [sys.executable, "-m", "benchmarks.load", "--child", side]
        command += ["--folder", str(setting.folder), "--threads", str(_threads())]
        done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found

    def check() -> dict[str, object]:
        one, other = run("ours"), run("peer")
        if one["token"] != other["token"]:
            raise DisagreementError(f"first token: {other['token']} and {one['token']}")
        return {
            "ours, load and first answer, s": round(one["answer_s"], 2),
            "peer, load and first answer, s": round(other["answer_s"], 2),
            "ours, peak after the first answer ÷ weights": round(one["answer_peak"] / weights, 3),
            "peer, peak after the first answer ÷ weights": round(other["answer_peak"] / weights, 3),
            "peer, peak ÷ weights": round(other["peak"] / weights, 3),
            "peer, model alone, s": round(other["model_s"], 2),
        }

    def further(times: Times) -> dict[str, float]:
        del times
        ours, int8 = run("ours"), run("int8")
        return {
            "peak ÷ weights": ours["peak"] / weights,
            "int8 conversion, s": int8["answer_s"],
            "int8 peak ÷ weights": int8["answer_peak"] / weights,
        }

    return Case(
        ours=partial(run, "ours"),
        peer=partial(run, "peer"),
        check=check,
        seconds=lambda found: found["seconds"],  # type: ignore[index]
        further=further,
    )


def child(side: str, folder: Path) -> dict[str, float]:
    """Load, answer, and say what each took; imports are not loading."""
    import torch
    import transformers

    from benchmarks.harness.peer import Peer
    from kosmos.generate.generator import Generator

    # what is imported at its first use is no part of loading either
    _ = transformers.Kosmos2ForConditionalGeneration, transformers.AutoProcessor
    facts: dict[str, float] = {}
    before = peak_memory_bytes()
    start = time.perf_counter()
    answer: Callable[[], int]
    if side == "peer":
        peer = Peer(folder)
        facts["model_s"] = peer.model_s

        def answer() -> int:
            ids = peer.processor(text=[PROMPT], return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                logits = peer.model.text_model(ids, logits_to_keep=1).logits
            return int(logits.argmax())
    else:
        quantize = "int8" if side == "int8" else None
        generator = Generator.load(folder, quantize=quantize)

        def answer() -> int:
            return int(generator.generate(PROMPT, max_new_tokens=1).token_ids[0])

    seconds, peak = time.perf_counter() - start, peak_memory_bytes() - before
    token = answer()
    return {
        **facts,
        "seconds": seconds,
        "peak": peak,
        "token": token,
        "answer_s": time.perf_counter() - start,
        "answer_peak": peak_memory_bytes() - before,
    }


def _threads() -> int:
    import torch

    return torch.get_num_threads()


if __name__ == "__main__":
    if "--child" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--child", required=True)
        parser.add_argument("--folder", type=Path, required=True)
        parser.add_argument("--threads", type=int, required=True)
        given = parser.parse_args()
        import torch

        torch.set_num_threads(given.threads)
        print(json.dumps(child(given.child, given.folder)))
        sys.exit(0)
    sys.exit(main(BENCHMARK, prepare))
