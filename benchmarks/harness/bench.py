"""A benchmark from its command line to its table: what every file of this folder ends in.

A file holds a :class:`Benchmark`, which says what is compared and what it should reach, and a
function that turns a :class:`Setting` into a :class:`Case`: the two ways, and the proof that they
do the same work. :func:`main` does the rest, in this order: the lock and the memory, calibration,
the check, the rounds, calibration again, the table, the JSON file.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

import torch

from benchmarks.harness import limits, machine
from benchmarks.harness.apart import apart, print_peak, serve
from benchmarks.harness.inputs import Photos
from benchmarks.harness.machine import Calibration
from benchmarks.harness.measure import DisagreementError, Ratio, Step, Target, Times, alternate
from benchmarks.harness.models import SIZES, check_memory, model_folder, only_one
from benchmarks.harness.peer import Peer
from benchmarks.harness.provenance import ROOT, command_line, commit
from benchmarks.harness.table import show
from kosmos.errors import KosmosError
from kosmos.files import Json, read_json, write_json
from kosmos.generate.generator import Generator
from kosmos.model.config import ModelConfig

RATIO, OF_LIMIT, SECONDS = "ours ÷ peer", "of the limit", "s"
Quantize: TypeAlias = Literal["int8"] | None
MAX_SHARE = {"full": 1.0, "medium": 0.5, "small": 0.5, "tiny": 0.02}
"""Size of the calibration beside the usual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A row of the table, before it is measured."""

    name: str
    """Of its file."""
    title: str
    """What a reader calls it."""
    workload: str
    """What is done."""
    peer: str
    """With what; empty if ours is alone, and its seconds are what targets are about."""
    targets: Sequence[Target]
    """What it should reach."""
    size: str = "full"
    """The model it is for."""
    rounds: int = 3
    """Pairs of runs."""
    copies: float = 2.2
    """How many times the float32 weights are in memory."""
    on_cuda: bool = True
    """Whether it means something on a GPU."""
    needs_cuda: bool = False
    """Whether it means something there alone; the tiny one runs anywhere, to be tested."""
    is_apart: bool = False
    """Whether each side has a process of its own, see apart.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Two ways to do one thing, or ours alone."""

    ours: Step
    peer: Step | None
    check: Callable[[], Mapping[str, Json]]
    """Raises :class:`DisagreementError` where the two differ; gives facts for the record."""
    limit_s: Callable[[Calibration], float] | None = None
    """Least seconds on a machine of these rates; None where no rate bounds the work."""
    unit: str = ""
    """What is counted."""
    count: float = 0
    """How many of it one run does."""
    loops: int = 1
    """Calls in one time, where one is too short for the clock."""
    seconds: Callable[[object], float] | None = None
    """Reads the time off what a step gives, where it is taken elsewhere."""
    further: Callable[[Times], Mapping[str, float]] | None = None
    """Numbers beside the ratio that targets are about."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a run of a benchmark was given, and what it loads from that when it needs it."""

    args: argparse.Namespace
    name: str
    words: Sequence[str]
    generators: dict[Quantize, Generator] = field(default_factory=dict)

    @property
    def size(self) -> str:
        """A key of :data:`SIZES`."""
        return str(self.args.size)

    @cached_property
    def folder(self) -> Path:
        """What both sides load."""
        args = self.args
        return model_folder(args.size, args.work, tokenizer=args.tokenizer, seed=args.seed)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, which follow from the tokenizer."""
        config = read_json(self.folder / "config.json")
        return int(config["text_config"]["vocab_size"])  # type: ignore[arg-type, call-overload, index]

    def peak_bytes(self, side: str) -> int:
        """What two runs of a side add to the memory of a process of their own.

        The case is prepared before; what a side builds in its first run counts.

        Args:
            side: ``"ours"`` or ``"peer"``.
        """
        command = [sys.executable, "-m", f"benchmarks.{self.name}", *self.words]
        command += ["--size", self.size, "--threads", str(torch.get_num_threads())]
        done = subprocess.run(
            [*command, "--peak-of", side], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return found["bytes"]

    def count(self, many: int, tiny: int) -> int:
        """How many of something: fewer with the tiny model."""
        return tiny if self.size == "tiny" else many

    def generator(self, quantize: Quantize = None) -> Generator:
        """Ours, loaded from the folder that the peer loads."""
        if quantize not in self.generators:
            self.generators[quantize] = Generator.load(
                self.folder,
                device=self.args.device,
                dtype=self.args.dtype,
                quantize=quantize,
                pack=True,  # as it would be after some requests
            )
        return self.generators[quantize]

    @cached_property
    def peer(self) -> Peer:
        """Theirs."""
        return Peer(self.folder, device=self.args.device, dtype=self.args.dtype)

    @cached_property
    def photos(self) -> Photos:
        """Photographs that are new in every round."""
        return Photos(self.args.photos, self.args.work)

    @property
    def config(self) -> ModelConfig:
        """The shape of the model."""
        return self.generator().model.config

    def limit_s(
        self,
        *,
        tokens: int,
        batch: int = 1,
        images: int = 0,
        head_tokens: int | None = None,
        steps: int = 0,
        rows: int = 1,
        past: int | None = None,
    ) -> Callable[[Calibration], float]:
        """Least seconds to read prompts and then to decode, for a :class:`Case`.

        Arguments are those of :func:`limits.read_s` and, from ``steps`` on, of
        :func:`limits.decode_s`; what is past is the prompt if nothing else is said.
        """

        def limit(rates: Calibration) -> float:
            reading = limits.read_s(
                self.config,
                rates,
                tokens=tokens,
                batch=batch,
                images=images,
                head_tokens=head_tokens,
                weight_bytes=self.weight_bytes,
            )
            return reading + limits.decode_s(
                self.config,
                rates,
                steps=steps,
                rows=rows,
                past=tokens if past is None else past,
                weight_bytes=self.weight_bytes,
            )

        return limit

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight as it is loaded."""
        return 4 if self.args.dtype == "float32" else 2


def main(
    benchmark: Benchmark,
    prepare: Callable[[Setting], Case],
    options: Callable[[argparse.ArgumentParser], object] | None = None,
    words: Sequence[str] | None = None,
) -> int:
    """Run a benchmark as its command line says.

    Args:
        benchmark: What it is.
        prepare: Makes the two ways.
        options: Adds options of its own.
        words: The command line; None for the process's.

    Returns:
        The exit code: 0, or 1 where the two sides disagree, memory is short or an input is bad.
    """
    parser = _parser(benchmark)
    if options is not None:
        options(parser)
    words = sys.argv[1:] if words is None else words
    args = parser.parse_args(words)
    if args.threads:
        torch.set_num_threads(args.threads)
    on_gpu = torch.device(args.device).type == "cuda"
    if why := _why_not(benchmark, args):
        print(f"{benchmark.name}: skipped on --device {args.device}: {why}")
        return 0
    args.dtype = args.dtype or ("bfloat16" if on_gpu else "float32")
    args.work = args.work.expanduser()
    if side := args.peak_of or args.serve:
        case = prepare(Setting(args=args, name=benchmark.name, words=words))
        step = case.ours if side == "ours" else case.peer
        assert step is not None
        if args.peak_of:
            print_peak(step)
        else:
            serve(step, args.device)
        return 0
    try:
        with only_one(args.size):
            check_memory(args.size, benchmark.copies)
            found = measure(benchmark, prepare, args, words)
    except (DisagreementError, KosmosError) as error:
        print(f"{benchmark.name}: {error}", file=sys.stderr)
        return 1
    print(show([found]))
    if args.json:
        write_json(args.json, found)
    return 0


def measure(
    benchmark: Benchmark,
    prepare: Callable[[Setting], Case],
    args: argparse.Namespace,
    words: Sequence[str],
) -> dict[str, Json]:
    """Do it: everything that goes into the JSON file.

    Raises:
        DisagreementError: If ours and the peer give different results.
    """
    setting = Setting(args=args, name=benchmark.name, words=words)
    share = MAX_SHARE[args.size]
    shown: list[machine.Calibration] = []

    def calibrate() -> None:
        shown.append(machine.calibrate(args.device, args.dtype, share=share))

    case = prepare(setting)
    facts = dict(case.check())
    with _sides(benchmark, case, setting) as (ours, peer, seconds):
        times = alternate(
            ours,
            peer,
            rounds=args.rounds,
            first=1,  # the check had round 0
            warmups=args.warmups,
            loops=case.loops,
            device=args.device,
            seconds=seconds,
            around=calibrate,
        )
    rates = machine.Calibration.mean(shown)
    beside = [machine.Calibration.mean(shown[at : at + 2]) for at in range(0, len(shown), 2)]
    limits_s = [] if case.limit_s is None else [case.limit_s(one) for one in beside]
    limit_s = median(limits_s) if limits_s else None
    ratio = Ratio.of(times) if times.peer else None
    numbers = {SECONDS: median(times.ours)} if ratio is None else {RATIO: ratio.median}
    if limits_s:
        numbers[OF_LIMIT] = median(
            limit / ours for limit, ours in zip(limits_s, times.ours, strict=True)
        )
    if case.further is not None:
        numbers |= case.further(times)
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "workload": benchmark.workload,
        "peer": benchmark.peer,
        "size": args.size,
        "dtype": args.dtype,
        "device": args.device,
        "rounds": args.rounds,
        "ours_s": list[Json](times.ours),
        "peer_s": list[Json](times.peer),
        "limit_s": limit_s,
        "unit": case.unit,
        "count": case.count,
        "ratio": None
        if ratio is None
        else {"median": ratio.median, "least": ratio.least, "greatest": ratio.greatest},
        "numbers": dict[str, Json](numbers),
        "targets": [
            {
                "name": target.name,
                "expected": str(target),
                "found": numbers[target.name],
                "met": target.is_met_by(numbers[target.name]),
            }
            for target in benchmark.targets
        ],
        "facts": dict[str, Json](facts),
        "calibration": {"flops_per_s": rates.flops_per_s, "bytes_per_s": rates.bytes_per_s},
        "machine": machine.describe(args.device),
        "command": command_line(benchmark.name, words),
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _why_not(benchmark: Benchmark, args: argparse.Namespace) -> str:
    """Why a benchmark means nothing on a device; empty if it does."""
    on_gpu = torch.device(args.device).type == "cuda"
    if on_gpu and not benchmark.on_cuda:
        return "this one is about the CPU"
    if on_gpu and not torch.cuda.is_available():
        return "there is none here"
    if not on_gpu and benchmark.needs_cuda and args.size != "tiny":
        return "this one is about a GPU; --size tiny runs anywhere"
    return ""


@contextmanager
def _sides(
    benchmark: Benchmark, case: Case, setting: Setting
) -> Iterator[tuple[Step, Step | None, Callable[[object], float] | None]]:
    """What is timed, and how to read the time off what it gives."""
    if not benchmark.is_apart:
        yield case.ours, case.peer, case.seconds
        return
    with apart(benchmark.name, setting.words, setting.size) as (ours, peer):
        yield ours, peer, float  # type: ignore[arg-type]


def _parser(benchmark: Benchmark) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{benchmark.name}",
        description=f"{benchmark.title}: {benchmark.workload}. Peer: {benchmark.peer or 'none'}.",
    )
    parser.add_argument("--size", choices=[*SIZES], default=benchmark.size)
    parser.add_argument("--rounds", type=int, default=benchmark.rounds, help="pairs of runs")
    parser.add_argument("--warmups", type=int, default=1, help="pairs before the clock counts")
    parser.add_argument("--work", type=Path, default=default_work(), help="models and photographs")
    parser.add_argument("--tokenizer", type=Path, help="SentencePiece model; default: a stand-in")
    parser.add_argument("--photos", type=Path, help="folder of photographs; default: drawn ones")
    device = "cuda" if benchmark.needs_cuda else "cpu"
    parser.add_argument("--device", default=device, help=f"cpu or cuda; default: {device}")
    parser.add_argument("--dtype", help="default: float32 on a CPU, bfloat16 on a GPU")
    parser.add_argument("--threads", type=int, help="default: torch's")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--json", type=Path, help="file for everything measured")
    parser.add_argument("--peak-of", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--serve", choices=("ours", "peer"), help=argparse.SUPPRESS)
    return parser


def default_work() -> Path:
    """Where models are kept between runs."""
    return Path("~/.cache/openkosmos/benchmarks")
