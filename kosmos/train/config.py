"""Run: everything an experiment is, from the data it reads to the checkpoint it leaves."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kosmos.config import FREE_ON_RESUME, MORE_ON_RESUME, check_numbers
from kosmos.data.config import DataConfig
from kosmos.data.rules import stream_rules
from kosmos.document.layout import AnswerConfig, Layout
from kosmos.errors import ConfigError
from kosmos.findings import Finding, finding_of
from kosmos.image.config import ImageConfig
from kosmos.model.config import ModelConfig
from kosmos.model.lora import LoraConfig, target_layers

Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How the weights move."""

    steps: int = field(metadata=MORE_ON_RESUME)
    """Optimizer steps. A resumed run may have more; its rate goes on along the longer line."""
    warmup_steps: int
    """Steps over which the learning rate rises from zero."""
    learning_rate: float
    """Peak; then linear to zero, which it would reach one step behind the last."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW moments."""
    eps: float = 1e-6
    """AdamW epsilon (KOSMOS-1, Table 18)."""
    weight_decay: float = 0.01
    """Decoupled."""
    decay_all: bool = True
    """Decay biases, norms and embeddings too, as fairseq does; False leaves them out."""
    clip_norm: float = 2.0
    """Global gradient norm limit (release; the papers do not state theirs); 0 turns it off."""
    objective: Literal["next-token", "regions"] = "next-token"
    """What is minimized. regions: region-word contrast, which trains a vision tower alone where
    there is no CLIP to start from; see train/regions.py."""
    vision: Literal["all", "last-layer", "frozen"] = "last-layer"
    """What of the vision tower trains. KOSMOS-1: last-layer. KOSMOS-2: all. Release: frozen."""
    start_from: str = ""
    """Model folder whose weights it starts with; rows of a larger vocabulary stay fresh."""
    fresh: bool = field(default=True, metadata=FREE_ON_RESUME)
    """Whether a run may begin with random weights. Recipes that continue something say False: they
    do not start without start_from, or a word here that it is meant."""
    adapter: LoraConfig | None = None
    """LoRA: small matrices beside the weights learn instead of the weights, which stay as
    start_from has them. None: the weights learn."""
    precision: Precision = "float32"
    """Type of activations and of the weights they meet. bfloat16: weights, moments and summed
    gradients stay float32."""
    recompute: bool = False
    """Forget activations inside a layer and compute them again in the backward pass: a third more
    time, a fraction of the memory."""
    compile: bool = False
    """Compile each layer with torch.compile; pays on a GPU, not on a CPU."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What to do with a step whose loss or gradient is not finite. skip: leave the weights as they
    are and note the step and its documents in events.jsonl."""
    max_nonfinite: int = 10
    """Steps in a row that may be skipped so before the run stops all the same."""
    spike_factor: float = field(default=8.0, metadata=FREE_ON_RESUME)
    """A step whose loss lies this many usual distances above the median of its stream is noted in
    events.jsonl with the documents that raised it, see train/events.py; 0: none is."""
    peak_flops: float = field(default=0.0, metadata=FREE_ON_RESUME)
    """Operations a second that one device could do at best, for the utilisation; 0: what is known
    of the GPU, or measured of a CPU."""
    checkpoint_every: int = field(default=1000, metadata=FREE_ON_RESUME)
    """Steps between checkpoints; the last step always leaves one."""
    keep_checkpoints: int = field(default=2, metadata=FREE_ON_RESUME)
    """How many of the latest checkpoints stay; 0: all."""
    background_checkpoints: bool = field(default=True, metadata=FREE_ON_RESUME)
    """Write checkpoints while training goes on, from a copy of weights and moments in main memory;
    False: wait for the disk."""
    loader_workers: int = field(default=0, metadata=FREE_ON_RESUME)
    """Processes that read ahead; 0: a thread of the training process. Batches are the same."""
    heldout_every: int = field(default=0, metadata=FREE_ON_RESUME)
    """Steps between held-out losses; 0: only at the end."""
    keep_best: bool = False
    """The model that is left is that of the lowest held-out loss (the mean over the streams that
    have held-out data), not of the last step. Its checkpoint stays beside the latest ones."""
    log_every: int = field(default=10, metadata=FREE_ON_RESUME)
    """Steps between progress lines; metrics.jsonl gets every step."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            "train",
            positive=(
                *("steps", "checkpoint_every", "log_every", "max_nonfinite"),
                *("learning_rate", "eps"),
            ),
            not_negative=(
                *("warmup_steps", "keep_checkpoints", "heldout_every", "loader_workers"),
                *("weight_decay", "clip_norm", "spike_factor", "peak_flops"),
            ),
            fractions=("betas",),
        )
        if 1.0 in self.betas:
            raise ConfigError(f"train.betas: expected numbers below 1, found {self.betas}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An experiment. Recipes make it, `--set` changes it, run.json remembers it."""

    name: str = field(metadata=FREE_ON_RESUME)
    """Name of the recipe it came from."""
    source: str = field(metadata=FREE_ON_RESUME)
    """Where its numbers are from; empty for our own."""
    seed: int = 0
    """Weights, order of the data and dropout follow from it."""
    model: ModelConfig
    """Shape of the model."""
    data: DataConfig
    """What is read, and how targets are laid out."""
    answers: AnswerConfig | None = field(default=None, metadata=FREE_ON_RESUME)
    """How the model that is left is asked, which its folder says. None: as targets are laid out."""
    train: TrainConfig
    """How the weights move."""
    parts: Literal["stated", "start"] = "stated"
    """start: model, tokenizer, num_cells, pictures and answers are those of train.start_from, and
    anything else is an error; rates of dropout and the layout of targets may differ. stated: they
    are what the run says."""
    stated_tokens_per_step: float = field(default=0.0, metadata=FREE_ON_RESUME)
    """What the paper states, for `kosmos plan` to print beside its own sum; 0: not stated."""
    stated_total_tokens: float = field(default=0.0, metadata=FREE_ON_RESUME)
    """What the paper states; 0: not stated."""

    def __post_init__(self) -> None:
        stated = ("stated_tokens_per_step", "stated_total_tokens")
        check_numbers(self, "run", not_negative=("seed", *stated))

    @property
    def answer_image(self) -> ImageConfig:
        """Preprocessing of the pictures that the model is asked about."""
        return self.answers.image(self.data.image) if self.answers else self.data.image

    @property
    def answer_layout(self) -> Layout:
        """Layout of the prompts that it gets."""
        return self.answers.layout(self.data.layout) if self.answers else self.data.layout


def run_rules(run: Run, *, vocabulary_size: int | None = None) -> Iterator[Finding]:
    """The parts of a run fit each other.

    Not asked while a run is built: its fields are changed one at a time.

    Args:
        run: The run.
        vocabulary_size: Ids of its tokenizer, when that is known.
    """
    train = run.train
    if train.warmup_steps > train.steps:
        yield _wrong(
            "train.warmup_steps",
            f"expected at most train.steps={train.steps}, found {train.warmup_steps}",
        )
    yield from fit_rules(run.model, run.data, vocabulary_size=vocabulary_size)
    yield from _adapter_rules(run)
    yield from _best_rules(run)
    for stream in run.data.streams:
        yield from stream_rules(stream)


def fit_rules(
    model: ModelConfig, data: DataConfig, *, vocabulary_size: int | None
) -> Iterator[Finding]:
    """A model can read what data becomes.

    Args:
        model: The model.
        data: The data.
        vocabulary_size: Ids of the tokenizer, when that is known.
    """
    size = model.decoder.vocab_size
    if vocabulary_size not in (None, size):
        yield _wrong(
            "model.decoder.vocab_size",
            f"expected {vocabulary_size} as the tokenizer with num_cells={data.num_cells} has ids, "
            f"found {size}",
            f"--set model.decoder.vocab_size={vocabulary_size}",
        )
    longest = model.decoder.max_tokens
    for stream in data.streams:
        if stream.max_tokens > longest:
            yield _wrong(
                f"streams.{stream.name}.max_tokens",
                f"expected at most model.decoder.max_tokens={longest}, found {stream.max_tokens}",
            )
    if model.vision is None or model.connector is None:
        return
    if data.image.size != model.vision.image_size:
        yield _wrong(
            "image.size",
            f"expected model.vision.image_size={model.vision.image_size}, found {data.image.size}",
        )
    num_tokens, num_queries = data.layout.num_image_tokens, model.connector.num_queries
    if num_tokens != num_queries:
        yield _wrong(
            "layout.num_image_tokens",
            f"expected model.connector.num_queries={num_queries}, found {num_tokens}",
        )


def _adapter_rules(run: Run) -> Iterator[Finding]:
    train = run.train
    if train.adapter is None:
        return
    try:
        target_layers(run.model, train.adapter.targets)
    except ConfigError as error:
        yield finding_of(error)
    if train.objective != "next-token":
        yield _wrong(
            "train.adapter", f"expected train.objective='next-token', found {train.objective!r}"
        )
    if train.vision != "frozen" and run.model.vision is not None:
        yield _wrong(
            "train.vision",
            f"expected 'frozen' with an adapter, found {train.vision!r}",
            "'vision' among train.adapter.targets adapts the vision tower",
        )


def _best_rules(run: Run) -> Iterator[Finding]:
    if not run.train.keep_best:
        return
    if not run.train.heldout_every:
        yield _wrong(
            "train.heldout_every", "expected a positive number with train.keep_best, found 0"
        )
    sources = [corpus for stream in run.data.streams for corpus in stream.sources]
    is_named = any(corpus.path for corpus in sources)  # a recipe may wait for its data
    if is_named and not any(corpus.heldout_path for corpus in sources):
        yield _wrong(
            "train.keep_best",
            "expected held-out data in one of the streams, found none",
            f"--set streams.{run.data.streams[0].name}.heldout_path=FOLDER; kosmos data "
            "import --heldout-fraction 0.1 makes one",
        )


def _wrong(where: str, what: str, hint: str = "") -> Finding:
    return Finding(severity="error", where=where, what=what, hint=hint)
