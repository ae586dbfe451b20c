"""The words and tables of a run card, in Markdown."""

import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kosmos import config
from kosmos.card.curves import Curve, Points, quantile
from kosmos.card.facts import CorpusFacts, Facts
from kosmos.check.settings import doubts
from kosmos.model.cost import parameter_table
from kosmos.train.record import leaves

_NUM_EVENTS = 20
_NUM_DOCUMENTS = 3
_LONG = 60
_PART = 20
"""First and last losses are means over one step in so many."""
# of a run that takes them from the folder it starts from
_TAKEN = (
    *("model.", "answers", "data.image.", "data.layout.num_image_tokens"),
    *("data.tokenizer", "data.num_cells"),
)


def page(facts: Facts, *, charts: Sequence[str]) -> str:
    """The whole page, with charts in files as seen from the page."""
    losses = [name for name in charts if "losses" in name]
    machine = [name for name in charts if "losses" not in name]
    parts = [
        f"# {facts.run.name}",
        _summary(facts),
        *(f"![Loss of each stream, in nats per token]({name})" for name in losses),
        _losses(facts),
        "## What ran",
        _changes(facts),
        _model(facts),
        _doubts(facts),
        "## Data",
        *_data(facts),
        "## How it went",
        *(f"![Speed, memory, waiting, gradient and rate]({name})" for name in machine),
        _speed(facts),
        _damaged(facts),
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


def _summary(facts: Facts) -> str:
    run, last = facts.run, facts.curves.last
    if not last:
        return "No step is done yet."
    if facts.is_finished:
        state = f"Finished: {_number(facts.step, 'step')}"
    else:
        state = f"Not finished: {facts.step:,} of {_number(run.train.steps, 'step')}"
    state += f", {_count(last['tokens'])} tokens in {_duration(last['wall_s'])}"
    if facts.sessions:
        state += f" on {_machine(facts.sessions[-1])}"
    kinds = [event["kind"] for event in facts.events]
    happened = [
        _number(kinds.count(kind), name)
        for kind, name in (("spike", "spike"), ("nonfinite", "non-finite micro-batch"))
        if kind in kinds
    ]
    sentences = [f"{state}."]
    if happened:
        sentences.append(f"{' and '.join(happened)}: see [Events](#events).")
    if run.source:
        sentences.append(f"The settings are from {run.source}.")
    return " ".join(sentences)


def _losses(facts: Facts) -> str:
    """Losses at the end, beside what is to be beaten."""
    rows = [_loss(name, curve) for name, curve in facts.curves.streams.items()]
    if not rows:
        return ""
    head = ("stream", "first", "last", "held out", "lowest", "unigram", "held out − unigram")
    return (
        f"{_table(head, rows)}\n\n"
        "Losses are in nats per token that carries loss. *First* and *last* are means over a "
        "twentieth of the steps, *lowest* is the lowest held-out loss, *unigram* what token "
        "frequencies alone reach on the same held-out data."
    )


def _loss(name: str, curve: Curve) -> list[str]:
    size = max(1, len(curve.train) // _PART)
    row = [name, _mean(curve.train[:size]), _mean(curve.train[-size:])]
    if not curve.heldout:
        return [*row, *["–"] * 4]
    values = [value for _, value in curve.heldout]
    row += [f"{values[-1]:.3f}", f"{min(values):.3f}"]
    if curve.unigram is None:
        return [*row, "–", "–"]
    return [*row, f"{curve.unigram:.3f}", f"{values[-1] - curve.unigram:+.3f}"]


# --- what ran


def _changes(facts: Facts) -> str:
    """Settings that are not the recipe's."""
    full = "Every setting is in [run.json](run.json)."
    name, recipe = facts.run.name, facts.recipe
    if recipe is None:
        return full
    ours, theirs = (dict(leaves(config.to_json(run))) for run in (facts.run, recipe))
    taken = _TAKEN if facts.run.parts == "start" else ()
    if taken:
        full += " Model, tokenizer, pictures and answers are those of `train.start_from`."
    rows = [
        [f"`{name}`", _value(theirs.get(name)), _value(ours.get(name))]
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name) and not name.startswith(taken)
    ]
    if not rows:
        return f"The recipe `{name}` as it is. {full}"
    table = _table(("setting", "recipe", "this run"), rows, words=3)
    return f"The recipe `{name}` with these changes. {full}\n\n{table}"


def _value(value: object) -> str:
    if value is None:
        return "–"
    text = "(empty)" if value == "" else str(value)
    if len(text) > _LONG and isinstance(value, str) and "/" in value:
        text = "…/" + "/".join(Path(value).parts[-3:])
    return f"`{text}`" if len(text) <= _LONG else f"`{text[: _LONG - 1]}…`"


def _model(facts: Facts) -> str:
    decoder, vision = facts.run.model.decoder, facts.run.model.vision
    parts: dict[str, int] = {}
    for name, count in parameter_table(facts.run.model).items():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + count
    counts = ", ".join(f"{name} {_count(count)}" for name, count in parts.items())
    words = (
        f"A decoder of {_number(decoder.num_layers, 'layer')}, {decoder.width} wide, with "
        f"{decoder.vocab_size:,} tokens and {decoder.positions} positions"
    )
    if vision is not None:
        words += (
            f"; a vision tower of {_number(vision.num_layers, 'layer')}, {vision.width} wide, for "
            f"pictures of {vision.image_size} × {vision.image_size} pixels"
        )
    return f"{words}. {sum(parts.values()):,} parameters: {counts}."


def _doubts(facts: Facts) -> str:
    lines = [f"- `{doubt.where}`: {doubt.what}" for doubt in doubts(facts.run)]
    return "\n".join(["Settings in doubt:", "", *lines]) if lines else ""


# --- data


def _data(facts: Facts) -> Iterator[str]:
    head = ("corpus", "folder", "shards", "documents", "unusable", "rows", "tokens", "pictures")
    yield _table((*head, "passes"), [_corpus(facts, corpus) for corpus in facts.corpora], words=3)
    yield (
        "*Shards* is how the digest of the shards begins, *unusable* counts documents that were "
        "left out, *passes* is how often the run has read a corpus."
    )
    for key, words in (
        ("unusable", "Documents that were left out"),
        ("dropped", "Left out of documents that were kept"),
    ):
        lines = [
            f"- `{corpus.name}`: {count:,} {what}"
            for corpus in facts.corpora
            for what, count in (corpus.index or {}).get(key, {}).items()
            if count
        ]
        if lines:
            yield f"{words}:\n\n" + "\n".join(lines)
    held = [f"`{corpus.name}`" for corpus in facts.corpora if corpus.is_heldout]
    yield f"Data is held out of {', '.join(held)}." if held else "No data is held out."
    if skipped := facts.run.data.skip_steps:
        yield f"Steps of data that were left out: {', '.join(skipped)}."


def _corpus(facts: Facts, corpus: CorpusFacts) -> list[str]:
    row = [corpus.name, _value(corpus.path), f"`{corpus.shards[:12]}`"]
    index = corpus.index
    if index is None:
        return [*row, *["–"] * 6]
    return [
        *row,
        f"{index['num_documents']:,}",
        f"{sum(index['unusable'].values()):,}",
        f"{index['num_rows']:,}",
        _count(index["num_tokens"]),
        f"{index['num_images']:,}",
        f"{facts.step * corpus.rows_per_step / index['num_rows']:.2f}",
    ]


# --- how it went


def _speed(facts: Facts) -> str:
    curves = facts.curves
    names = {
        "tokens_per_s": ("tokens per second", "{:,.0f}"),
        "step_s": ("seconds a step", "{:.3g}"),
        "utilisation": ("utilisation", "{:.1%}"),
        "data_wait_share": ("waiting for data", "{:.1%}"),
    }
    rows = [
        [words, *(form.format(quantile(points, share)) for share in (0.1, 0.5, 0.9))]
        for name, (words, form) in names.items()
        if (points := curves.quantities.get(name))
    ]
    if not rows:
        return ""
    told = [f"{curves.num_loss_tokens / curves.num_tokens:.1%} of the tokens carried loss."]
    if curves.num_positions:
        waste = 1.0 - curves.num_tokens / curves.num_positions
        told.append(f"{waste:.1%} of the positions that were computed were padding or fillers.")
    if isinstance(curves.last.get("memory_bytes"), int):
        told.append(f"Peak memory of a process was {curves.last['memory_bytes'] / 1e9:.2f} GB.")
    if curves.flops:
        told.append(f"The steps needed {curves.flops:.3g} floating-point operations.")
    table = _table(("", "10% are below", "median", "90% are below"), rows)
    return f"{table}\n\n{' '.join(told)}"


def _damaged(facts: Facts) -> str:
    told = [f"{_number(count, 'line')} of {name}" for name, count in facts.num_damaged.items()]
    return f"Damaged, and left out here: {', '.join(told)}." if told else ""


def _events(facts: Facts) -> str:
    if not facts.events:
        return "None: every step was finite, and no loss rose far above the usual."
    rows = [_event(event) for event in facts.events[:_NUM_EVENTS]]
    table = _table(("step", "stream", "what", "documents"), rows, words=4)
    rest = len(facts.events) - _NUM_EVENTS
    where = f"{rest:,} more are in" if rest > 0 else "All of it is in"
    steps = facts.events[0].get("data_step", facts.events[0]["step"])
    return (
        f"{table}\n\n{where} [events.jsonl](events.jsonl). A run that is to read past the data of "
        f"a step leaves it out: `--set data.skip_steps='[\"{steps}\"]'`."
    )


def _event(event: dict[str, Any]) -> list[str]:
    what = event.get("what", "")
    if event["kind"] == "spike":
        what = f"loss {event['loss']:.3g}, usually {event['usual']:.3g}"
    documents = event["documents"]
    named = ", ".join(f"`{name}`" for name in documents[:_NUM_DOCUMENTS])
    if len(documents) > _NUM_DOCUMENTS:
        named += f" and {len(documents) - _NUM_DOCUMENTS} more"
    return [f"{event['step']:,}", event["stream"] or "all", what, named]


# --- where, what is left, how to repeat


def _machine(session: dict[str, Any]) -> str:
    count, device = session["processes"], session["device"]
    if device is not None:
        return f"{count} × {device}"
    each = _number(session["threads"], "thread")
    processes = f"{_number(count, 'process')} of {each}" if count > 1 else each
    return f"{session['processor']}, {processes}"


def _sessions(facts: Facts) -> str:
    if not facts.sessions:
        return "Not noted: the run is older than sessions.jsonl."
    rows = [
        [
            session["began"],
            f"{session['step']:,}",
            _machine(session),
            f"`{shlex.join(session['command'])}`",
        ]
        for session in facts.sessions
    ]
    last = facts.sessions[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    table = _table(("began", "after step", "on", "command"), rows, words=4)
    return f"{table}\n\n{last['system']}; {versions}."


def _left(facts: Facts) -> str:
    lines = []
    for left in facts.left:
        digests = ", ".join(f"`{file}` SHA-256 `{sha}`" for file, sha in left.digests.items())
        lines.append(f"- [{left.name}]({left.name}), of step {left.step:,}: {digests}")
    if not facts.left:
        lines.append("- no model yet: the last step is not done")
    if facts.checkpoints:
        lines.append(f"- checkpoints: {', '.join(facts.checkpoints)}")
    return "\n".join(lines)


def _repeat(facts: Facts) -> str:
    folder = str(facts.folder if facts.folder.name else facts.folder.resolve())
    begin = _begin(facts.sessions)
    run = shlex.quote(f"{folder}/run.json")
    commands = [
        f"kosmos data check {run}",
        f"{begin} train {run} --out {shlex.quote(folder + '-again')}",
    ]
    goes_on = ""
    if not facts.is_finished:
        out = shlex.quote(folder)
        goes_on = f"To go on:\n\n```console\n$ {begin} train {run} --out {out} --resume\n```\n\n"
    repeat = "\n".join(f"$ {command}" for command in commands)
    record = facts.record
    return (
        f"{goes_on}To check the data and begin again:\n\n```console\n{repeat}\n```\n\n"
        "Batches and dropout are functions of the seed and the step: the same data with as many "
        "threads and processes gives the same losses to the last bit. With others the order of "
        "summation differs, and nothing else.\n\n"
        f"- run `{record['digest']}`\n- tokenizer `{record['tokenizer']}`\n"
        f"- seed {facts.run.seed}\n- openkosmos {record['version']}"
    )


def _begin(sessions: Sequence[dict[str, Any]]) -> str:
    """How the command line was started: by itself, or by torchrun."""
    command: list[str] = sessions[-1]["command"] if sessions else []
    if "kosmos" in command and "train" in command:
        return shlex.join(command[: command.index("train")])
    return "kosmos"


# --- numbers


def _mean(points: Points) -> str:
    return f"{math.fsum(value for _, value in points) / len(points):.3f}" if points else "–"


def _number(count: int, name: str) -> str:
    """``1 step``, ``2 steps``, ``2 processes``."""
    ending = "" if count == 1 else "es" if name.endswith(("s", "ch")) else "s"
    return f"{count:,} {name}{ending}"


def _count(value: float) -> str:
    """A number in three digits and a letter."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _duration(seconds: float) -> str:
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    parts = ((days, "d"), (hours, "h"), (rest // 60, "min"), (rest % 60, "s"))
    told = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(told[:2]) or "0 s"
