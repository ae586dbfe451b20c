"""Training KOSMOS-2 on one GPU: the 1.3B decoder with CLIP ViT-L/14, all of it, in bfloat16.

An eighth of the paper's step: texts, captions and pages in its token shares, dropout on, layers
compiled, nothing computed twice. Utilisation is operations that real tokens and pictures needed
(neither padding nor what an implementation adds), over what the maker of the GPU says it can do
meanwhile; the limit beside it is from a product measured here. On a CPU only the tiny model runs,
to see that all of it works.
"""

import argparse
import atexit
import sys
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

import torch

from benchmarks.harness import corpus
from benchmarks.harness.bench import Benchmark, Case, Setting, main
from benchmarks.harness.corpus import Shape, batches_of, pictures_of
from benchmarks.harness.machine import Calibration
from benchmarks.harness.measure import DisagreementError, Target, Times
from benchmarks.harness.models import SIZES
from kosmos.data.batch import Batch
from kosmos.model.config import PRESETS, ModelConfig
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.runtime import generator
from kosmos.train.config import TrainConfig
from kosmos.train.optimizer import make_optimizer
from kosmos.train.parallel import joined, prepare_layers, split
from kosmos.train.step import NextToken, StepResult, training_step
from kosmos.train.utilisation import peak_flops_per_s

TOKENS = {"text": 185_000 // 8, "captions": 215_000 // 8, "interleaved": 19_000 // 8}
UTILISATION, MEMORY = "utilisation", "peak memory, GB"
CONFIG = TrainConfig(
    steps=1, warmup_steps=0, learning_rate=1e-5, vision="all", precision="bfloat16"
)
BENCHMARK = Benchmark(
    name="gpu_mfu",
    title="one data-centre GPU",
    workload="KOSMOS-2 mixture, 1.3B + CLIP-L, bf16",
    peer="",
    targets=[Target(name=UTILISATION, bound=0.45)],
    size="full",
    rounds=10,
    copies=1.1,  # made in main memory, then moved
    needs_cuda=True,
)


def prepare(setting: Setting) -> Case:
    """A model from nothing: what weights hold changes no time."""
    is_tiny, on_gpu = setting.size == "tiny", torch.device(setting.args.device).type == "cuda"
    model_config = SIZES["tiny"] if is_tiny else PRESETS["kosmos2"]
    batches = _batches(setting, model_config)
    stack = ExitStack()
    atexit.register(stack.close)
    # bfloat16 is what splitting weights over all processes brings, of which there is one
    processes = stack.enter_context(joined(sharded=True))
    model = Kosmos(model_config)
    initialize(model, setting.args.seed)
    objective = NextToken(model, CONFIG)
    objective.to(processes.device).train()
    prepare_layers(objective, recompute=setting.args.recompute, compiled=on_gpu)
    split(objective, precision=CONFIG.precision, methods=objective.methods)
    optimizer = make_optimizer(objective, CONFIG)
    flops = sum(map(objective.flops, batches))
    num_tokens = sum(batch.num_tokens for batch in batches)

    def step(turn: int) -> StepResult:
        return training_step(
            objective,
            optimizer,
            batches,
            learning_rate=CONFIG.learning_rate,
            clip_norm=CONFIG.clip_norm,
            seed=setting.args.seed,
            step=turn + 1,
            processes=processes,
        )

    def check() -> dict[str, object]:
        first = step(0)
        losses = [step(turn).loss for turn in range(1, 4)]
        if first.problems or not losses[-1] < first.loss:
            raise DisagreementError(
                f"loss: expected it to fall on the same batches, found {first.loss}, {losses}"
            )
        return {
            "loss, first and fourth step": f"{first.loss:.3f}, {losses[-1]:.3f}",
            "tokens of a step": num_tokens,
            "pictures of a step": sum(len(b.pixels) for b in batches if b.pixels is not None),
            "micro-batches of a step": len(batches),
            "share of padding": round(1 - num_tokens / first.num_positions, 4),
            "TFLOP of a step": round(flops / 1e12, 3),
        }

    def limit_s(rates: Calibration) -> float:
        return flops / rates.flops_per_s

    def further(times: Times) -> dict[str, float]:
        peak = peak_flops_per_s(processes.device, CONFIG.precision, stated=setting.args.peak_flops)
        numbers = {UTILISATION: flops / median(times.ours) / (peak or float("nan"))}
        if on_gpu:
            numbers[MEMORY] = torch.cuda.max_memory_allocated() / 1e9
        return numbers

    return Case(
        ours=step,
        peer=None,
        check=check,
        limit_s=limit_s,
        further=further,
        unit="tokens",
        count=num_tokens,
    )


def _batches(setting: Setting, config: ModelConfig) -> list[Batch]:
    """The micro-batches of a step: whole rows of text, captions and pages of like lengths."""
    assert config.vision is not None
    assert config.connector is not None
    shape = Shape(
        vocab_size=config.decoder.vocab_size,
        num_slots=config.connector.num_queries,
        image_size=config.vision.image_size,
        max_tokens=setting.count(2048, 128) + 1,
    )
    rng = generator(setting.args.seed, "documents")
    tokens = {name: setting.count(many, many // 100) for name, many in TOKENS.items()}
    num_rows = max(1, round(tokens["text"] / (shape.max_tokens - 1)))
    documents = {
        "text": [corpus.full_row(rng, shape) for _ in range(num_rows)],
        "captions": corpus.captions(rng, shape, tokens["captions"]),
        "interleaved": corpus.pages(rng, shape, tokens["interleaved"]),
    }
    batches: list[Batch] = []
    for stream, rows in documents.items():
        batches += batches_of(
            rows,
            pictures_of(rows, shape, rng),
            stream=stream,
            isolated=False,
            max_tokens=setting.args.micro_batch_tokens,
        )
    return [replace(batch, place=place) for place, batch in enumerate(batches)]


def options(parser: argparse.ArgumentParser) -> None:
    """What depends on the GPU."""
    parser.add_argument("--micro-batch-tokens", type=int, default=8192)
    parser.add_argument("--recompute", action="store_true", help="for a GPU of little memory")
    parser.add_argument("--peak-flops", type=float, default=0.0, help="default: the maker's")


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare, options))
