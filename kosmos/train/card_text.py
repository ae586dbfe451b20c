"""The words and tables of a run card, in Markdown."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kosmos import config
from kosmos.model.cost import parameter_table
from kosmos.train.curves import quantile
from kosmos.train.record import leaves

if TYPE_CHECKING:
    from kosmos.train.card import CorpusFacts, Facts

_NUM_EVENTS = 20
_NUM_NAMED = 3
_LONG = 60


def page(facts: "Facts", *, charts: Sequence[str]) -> str:
    """The whole page.

    Args:
        facts: What it is made of.
        charts: Files of the pictures, as seen from the page.
    """
    losses = [name for name in charts if "losses" in name]
    machine = [name for name in charts if "losses" not in name]
    parts = [
        f"# {facts.run.name}",
        _summary(facts),
        *(f"![Loss of each stream, in nats per token]({name})" for name in losses),
        _streams(facts),
        "## What ran",
        _changes(facts),
        _model(facts),
        "## Data",
        _data(facts),
        "## How it went",
        *(f"![Speed, memory, waiting, gradient and rate]({name})" for name in machine),
        _speed(facts),
        "### Events",
        _events(facts),
        "## Where it ran",
        _sessions(facts),
        "## What it left",
        _left(facts),
        "## How to repeat it",
        _repeat(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A table; all but the first few columns are numbers."""
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "---|" * words + "--:|" * (len(head) - words))
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


# --- what it came to


def _summary(facts: "Facts") -> str:
    run, last = facts.run, facts.curves.last
    if not last:
        return "No step is done yet."
    steps = f"{facts.step:,} of {run.train.steps:,} steps"
    state = "Finished" if facts.is_finished else "Not finished"
    tokens = _count(float(last["tokens"]))
    took = _duration(float(last["wall_s"]))
    words = [f"{state}: {steps}, {tokens} tokens in {took}"]
    if facts.sessions:
        words.append(_machine_words(facts.sessions[-1]))
    kinds = [str(event["kind"]) for event in facts.events]
    for kind, name in (("spike", "spike of the loss"), ("nonfinite", "micro-batch not finite")):
        if number := kinds.count(kind):
            words.append(f"{number} {name}" if number == 1 else f"{number} {_plural(name)}")
    source = f" Source: {run.source}." if run.source else ""
    return f"{', '.join(words[:2])}. {_sentence(words[2:])}".strip() + source


def _plural(name: str) -> str:
    return {
        "spike of the loss": "spikes of the loss",
        "micro-batch not finite": "micro-batches not finite",
    }[name]


def _sentence(words: Sequence[str]) -> str:
    return f"{' and '.join(words)}; see [Events](#events)." if words else ""


def _streams(facts: "Facts") -> str:
    """Losses at the end, beside what is to be beaten."""
    rows = []
    for name, curve in facts.curves.streams.items():
        ends = curve.train[-max(1, len(curve.train) // 20) :]
        first = curve.train[: max(1, len(curve.train) // 20)]
        heldout = f"{curve.heldout[-1][1]:.3f}" if curve.heldout else "–"
        best = f"{min(v for _, v in curve.heldout):.3f}" if len(curve.heldout) > 1 else "–"
        rows.append(
            [
                name,
                _mean(first),
                _mean(ends),
                heldout,
                best,
                "–" if curve.unigram is None else f"{curve.unigram:.3f}",
                "–"
                if curve.unigram is None or not curve.heldout
                else f"{curve.heldout[-1][1] - curve.unigram:+.3f}",
            ]
        )
    if not rows:
        return ""
    head = ("stream", "first", "last", "held out", "lowest", "unigram", "held out less unigram")
    note = (
        "Losses are nats per loss token; *first* and *last* are means over a twentieth of the "
        "steps, *unigram* is what token frequencies alone reach on the same held-out data."
    )
    return f"{_table(head, rows)}\n\n{note}"


# --- what ran


def _changes(facts: "Facts") -> str:
    """Settings that are not the recipe's."""
    full = "Everything is in [run.json](run.json)."
    if facts.recipe is None:
        return f"The run is not of a recipe that is known here. {full}"
    ours, theirs = (dict(leaves(config.to_json(run))) for run in (facts.run, facts.recipe))
    rows = [
        [f"`{name}`", _value(theirs.get(name)), _value(ours.get(name))]
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if not rows:
        return f"The recipe `{facts.run.name}` as it is. {full}"
    head = ("setting", "recipe", "this run")
    return (
        f"The recipe `{facts.run.name}` with these changes. {full}\n\n{_table(head, rows, words=3)}"
    )


def _value(value: object) -> str:
    if value is None:
        return "–"
    text = "(empty)" if value == "" else str(value)
    if len(text) > _LONG and isinstance(value, str) and "/" in value:
        text = "…/" + "/".join(Path(value).parts[-3:])
    return f"`{text}`" if len(text) <= _LONG else f"`{text[: _LONG - 1]}…`"


def _model(facts: "Facts") -> str:
    table = parameter_table(facts.run.model)
    decoder, vision = facts.run.model.decoder, facts.run.model.vision
    shape = (
        f"{decoder.num_layers} layers of width {decoder.width}, {decoder.vocab_size:,} tokens, "
        f"{decoder.positions} positions"
    )
    if vision is not None:
        shape += (
            f"; a tower of {vision.num_layers} layers of width {vision.width} on "
            f"{vision.image_size} px"
        )
    parts: dict[str, int] = {}
    for name, count in table.items():
        parts[name.partition(".")[0]] = parts.get(name.partition(".")[0], 0) + count
    counts = ", ".join(f"{name} {_count(count)}" for name, count in parts.items())
    total = f"{sum(table.values()):,}"
    return f"**Model**: {shape}. {total} parameters ({counts})."


# --- data


def _data(facts: "Facts") -> str:
    rows = [_corpus(facts, corpus) for corpus in facts.corpora]
    head = ("corpus", "documents", "left out", "rows", "tokens", "pictures", "read", "shards")
    parts = [_table(head, rows)]
    parts.append(
        "*read* is how often the run went through the corpus, *shards* the start of the digest "
        "that `kosmos data check` and a repetition compare."
    )
    left_out = [
        f"- `{corpus.name}`: {int(number):,} {reason}"
        for corpus in facts.corpora
        for reason, number in _unusable(corpus).items()
    ]
    if left_out:
        parts.append("Left out:\n\n" + "\n".join(left_out))
    changed = [
        f"- `{corpus.name}`: {words}" for corpus in facts.corpora if (words := _dropped(corpus))
    ]
    if changed:
        parts.append("Kept without what did not fit:\n\n" + "\n".join(changed))
    held = [corpus.name for corpus in facts.corpora if corpus.heldout_path]
    parts.append(f"Held out: {', '.join(held)}." if held else "Nothing is held out.")
    skipped = facts.run.train.skip_steps
    if skipped:
        parts.append(f"Steps of data that were left out: {', '.join(skipped)}.")
    return "\n\n".join(parts)


def _corpus(facts: "Facts", corpus: "CorpusFacts") -> list[str]:
    digest = f"`{corpus.shards[:12]}`"
    index = corpus.index
    if index is None:
        return [corpus.name, *["–"] * 6, digest]
    rows = int(index["num_rows"])
    lost = sum(int(number) for number in _unusable(corpus).values())
    read = facts.step * corpus.sequences_per_step * corpus.share / rows
    return [
        corpus.name,
        f"{int(index['num_documents']):,}",
        f"{lost:,}",
        f"{rows:,}",
        _count(float(index["num_tokens"])),
        f"{int(index['num_images']):,}",
        f"{read:.2f}",
        digest,
    ]


def _unusable(corpus: "CorpusFacts") -> dict[str, Any]:
    found = (corpus.index or {}).get("unusable", {})
    assert isinstance(found, dict)
    return found


def _dropped(corpus: "CorpusFacts") -> str:
    """Boxes, phrases and tokens of documents that were kept."""
    found = (corpus.index or {}).get("dropped", {})
    assert isinstance(found, dict)
    return ", ".join(f"{int(n):,} {what}" for what, n in found.items() if n)


# --- how it went


def _speed(facts: "Facts") -> str:
    found = facts.curves.quantities
    rows = []
    names = {
        "tokens_per_s": ("tokens per second", "{:,.0f}"),
        "step_s": ("seconds a step", "{:.3g}"),
        "utilisation": ("utilisation", "{:.1%}"),
        "data_wait_share": ("waiting for data", "{:.1%}"),
    }
    for name, (words, form) in names.items():
        if points := found.get(name):
            values = [form.format(quantile(points, share)) for share in (0.1, 0.5, 0.9)]
            rows.append([words, *values])
    if not rows:
        return ""
    parts = [_table(("", "tenth", "median", "nine tenths"), rows)]
    last, told = facts.curves.last, []
    if isinstance(last.get("memory_bytes"), int):
        told.append(f"Peak memory {last['memory_bytes'] / 1e9:.2f} GB")
    curves = facts.curves
    if curves.num_positions:
        waste = 1.0 - curves.num_tokens / curves.num_positions
        told.append(f"{waste:.1%} of the positions that were computed were padding or fillers")
    told.append(f"{curves.num_loss_tokens / curves.num_tokens:.1%} of the tokens carried loss")
    if curves.flops:
        told.append(f"{_count(float(curves.flops))} operations")
    return "\n\n".join([*parts, "; ".join(told) + "."])


def _events(facts: "Facts") -> str:
    if not facts.events:
        return "None: every step was finite, and none lost far more than usual."
    rows = []
    for event in facts.events[:_NUM_EVENTS]:
        what = str(event.get("what", ""))
        if event["kind"] == "spike":
            what = f"loss {event['loss']:.3g} where {event['usual']:.3g} is usual"
        documents = event.get("documents", [])
        assert isinstance(documents, list)
        named = ", ".join(f"`{name}`" for name in documents[:_NUM_NAMED])
        more = f" and {len(documents) - _NUM_NAMED} more" if len(documents) > _NUM_NAMED else ""
        rows.append([f"{event['step']:,}", str(event["stream"]) or "all", what, named + more])
    table = _table(("step", "stream", "what", "documents"), rows, words=4)
    rest = len(facts.events) - _NUM_EVENTS
    hint = "`--set train.skip_steps='[\"A-B\"]'` reads past the data of steps A to B."
    more = f"{rest} more are" if rest > 0 else "The same is"
    return f"{table}\n\n{more} in [events.jsonl](events.jsonl). {hint}"


# --- where, what is left, how to repeat


def _machine_words(session: dict[str, Any]) -> str:
    device = session["device"]
    number = int(session["processes"])
    if device is None:
        threads = int(session["threads"])
        each = f"{threads} thread" + ("s" if threads > 1 else "")
        return f"on {session['processor']}, " + (
            f"{number} processes of {each}" if number > 1 else each
        )
    return f"on {number} x {device}" if number > 1 else f"on one {device}"


def _sessions(facts: "Facts") -> str:
    if not facts.sessions:
        return "The run was made before its starts were noted."
    rows = [
        [
            str(session["began"]),
            f"{session['step']:,}",
            _machine_words(session).removeprefix("on "),
            f"`{shlex.join(str(word) for word in session['command'])}`",
        ]
        for session in facts.sessions
    ]
    versions = facts.sessions[-1]["versions"]
    assert isinstance(versions, dict)
    names = ", ".join(f"{name} {number}" for name, number in versions.items())
    table = _table(("began", "after step", "on", "command"), rows, words=4)
    return f"{table}\n\n{facts.sessions[-1]['system']}; {names}."


def _left(facts: "Facts") -> str:
    lines = []
    for name, files in facts.models.items():
        digests = ", ".join(f"`{file}` SHA-256 `{digest}`" for file, digest in files.items())
        lines.append(f"- [{name}]({name}): {digests}" if digests else f"- [{name}]({name})")
    for name, size in facts.checkpoints:
        lines.append(f"- checkpoints/{name}, {size / 1e6:,.1f} MB")
    if not facts.models:
        lines.append("- no model yet: the last step is not done")
    return "\n".join(lines)


def _repeat(facts: "Facts") -> str:
    name = facts.folder.resolve().name
    start = "kosmos"
    if facts.sessions and int(facts.sessions[-1]["processes"]) > 1:
        start = f"torchrun --nproc-per-node {facts.sessions[-1]['processes']} -m kosmos"
    lines = [f"kosmos data check {name}", f"{start} train {name}/run.json --out {name}-again"]
    if not facts.is_finished:
        lines = [f"{start} train {name}/run.json --out {name} --resume", "", *lines]
    commands = "\n".join(lines)
    record = facts.record
    return (
        f"```console\n{commands}\n```\n\n"
        "Batches and dropout follow from the seed and the step, so the same data on as many "
        "threads and processes gives the same losses to the last bit, and on others the same but "
        "for the order of summation.\n\n"
        + _table(
            ("", ""),
            [
                ["run", f"`{record['digest']}`"],
                ["tokenizer", f"`{record['tokenizer']}`"],
                ["seed", f"{facts.run.seed}"],
                ["openkosmos", str(record["version"])],
            ],
            words=2,
        )
    )


# --- numbers


def _mean(points: Sequence[tuple[float, float]]) -> str:
    if not points:
        return "–"
    return f"{math.fsum(value for _, value in points) / len(points):.3f}"


def _count(value: float) -> str:
    """A number in three digits and a word."""
    for size, word in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{word}"
    return f"{value:.3g}"


def _duration(seconds: float) -> str:
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    parts = ((days, "d"), (hours, "h"), (rest // 60, "min"), (rest % 60, "s"))
    told = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(told[:2]) or "0 s"
