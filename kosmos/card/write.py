"""The run card: one page that says what ran, on what, how it went, and how to repeat it.

::

    RUN/card.md             the page, in Markdown
    RUN/card/losses.svg     loss of each stream
    RUN/card/machine.svg    speed, memory, waiting, gradient, rate

Everything on it is read off the run folder and the indices of its data, so that it can be made at
any time: of a run under way, of one that was stopped, of one that is done.
"""

from functools import partial
from pathlib import Path

from kosmos.card.charts import Panel, draw
from kosmos.card.facts import Facts, read_facts
from kosmos.card.text import page
from kosmos.files import write_text
from kosmos.train.config import Run

LOSSES, MACHINE = "card/losses.svg", "card/machine.svg"


def write_card(
    folder: Path, *, recipe: Run | None = None, index_folder: Path | None = None
) -> Path:
    """Write the card of a run; where the page is.

    Args:
        recipe: What it came from, to say what is different; None: not known.
        index_folder: Where the indices of its data are; None: where its record says.

    Raises:
        DataError: If there is no run, or the disk refuses.
    """
    facts = read_facts(folder, recipe=recipe, index_folder=index_folder)
    charts = {LOSSES: _losses(facts), MACHINE: _machine(facts)} if facts.step else {}
    for name, text in charts.items():
        write_text(folder / name, text)
    card = folder / "card.md"
    write_text(card, page(facts, charts=list(charts)))
    return card


def _losses(facts: Facts) -> str:
    marks: dict[str, list[float]] = {}
    for event in facts.events:
        marks.setdefault(event["stream"], []).append(event["step"])
    panels = []
    for name, curve in facts.curves.streams.items():
        notes = [f"held out {curve.heldout[-1][1]:.3g}"] if curve.heldout else []
        if curve.unigram is not None:
            notes.append(f"unigram {curve.unigram:.3g}")
        panels.append(
            Panel(
                title=name,
                points=curve.train,
                note=" · ".join(notes),
                dots=curve.heldout,
                baseline=curve.unigram,
                # what is of no stream is of all
                marks=sorted({*marks.get(name, []), *marks.get("", [])}),
            )
        )
    title = f"Loss of each stream of {facts.run.name}, in nats per token"
    return draw(panels, title=title, last_step=facts.step, has_key=True)


def _machine(facts: Facts) -> str:
    found = facts.curves.quantities
    is_on_gpu = bool(facts.sessions) and facts.sessions[-1]["device"] is not None
    peak = "allocated" if is_on_gpu else "resident"
    from_zero = partial(Panel, from_zero=True)
    panels = [
        from_zero(title="Tokens per second", points=found.get("tokens_per_s", []), show=_compact),
        from_zero(
            title="Utilisation",
            note="of the operations that the device could do",
            points=found.get("utilisation", []),
            show=_percent,
        ),
        from_zero(
            title="Memory, GB",
            note=f"peak so far, {peak}, of the largest process",
            points=[(step, value / 1e9) for step, value in found.get("memory_bytes", [])],
            is_noisy=False,
        ),
        from_zero(
            title="Waiting for data",
            note="share of the step",
            points=found.get("data_wait_share", []),
            show=_percent,
        ),
        from_zero(title="Gradient norm", note="before clipping", points=found.get("grad_norm", [])),
        from_zero(
            title="Learning rate",
            points=found.get("learning_rate", []),
            is_noisy=False,
            show=_scientific,
        ),
    ]
    title = f"Speed, memory and gradient of {facts.run.name}"
    return draw(panels, title=title, last_step=facts.step)


def _compact(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _scientific(value: float) -> str:
    """``2e-4``, ``1.5e-4``, ``0``."""
    digits, _, exponent = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}" if value else "0"
