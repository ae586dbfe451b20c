"""``kosmos refer``: say where a described thing is."""

from dataclasses import replace

import click

from kosmos import config as configs
from kosmos.cli.constraint import ConstraintChoice, constraint_options
from kosmos.cli.options import ModelChoice, batch_option, decoding_options, model_options
from kosmos.cli.output import WorkChoice, work_options, worklist
from kosmos.generate.config import FIRST_BOX, GREEDY, Decoding
from kosmos.generate.request import Generate, Locate, Request
from kosmos.generate.request_file import Entry
from kosmos.generate.sinks.words import box_lines
from kosmos.text import prompts


@click.command()
@model_options
@work_options(image="A picture, - for stdin; repeat for one reply each.")
@click.option("--expression", help='What to find: "the dog on the left".')
@click.option(
    "--best",
    type=click.IntRange(1),
    metavar="K",
    help="Instead of a reply, the K boxes that the model finds likeliest.",
)
@click.option(
    "--nms",
    type=click.FloatRange(0.0, 1.0),
    metavar="IOU",
    help="With --best: no box that overlaps a likelier one by more than this.",
)
@constraint_options("grammar")
@decoding_options
@batch_option
def command(
    model: ModelChoice,
    work: WorkChoice,
    expression: str | None,
    best: int | None,
    nms: float | None,
    constraint: ConstraintChoice,
    decoding: Decoding,
    batch_size: int,
) -> None:
    """Say where a described thing is, in pixels of the picture as it is; best box first.

    A reply ends behind the boxes of the expression.

    Example: kosmos refer --model DIR --image dog.jpg --expression "the dog on the left"

    Example: kosmos refer --model DIR --image dog.jpg --expression "a dog" --best 5 --nms 0.5

    Example: kosmos refer --model DIR --requests expressions.jsonl --jsonl boxes.jsonl
    """
    work.check()
    if expression is None and work.requests is None:
        raise click.UsageError("expected --expression, found none")
    if nms is not None and best is None:
        raise click.UsageError("--nms: expected --best, whose boxes it thins out")
    if best is not None and (decoding != GREEDY or constraint.is_set):
        raise click.UsageError("--best: expected no option of decoding, as no reply is written")
    decoding = replace(decoding, stop_after=FIRST_BOX.stop_after)
    made_by = {"best": best, "nms": nms} if best is not None else constraint.settings()
    made_by |= {"decoding": configs.to_json(decoding)} if best is None else {}
    entries = [
        replace(entry, asked={**entry.asked, "expression": entry.words})
        if entry.problem is None
        else entry
        for entry in work.entries("expression", expression)
    ]
    with worklist(
        work, entries, model, made_by, box_lines, show_confidence=best is not None
    ) as out:
        if not out.todo:
            return
        engine = model.load()
        held = constraint.make(engine)

        def request(entry: Entry) -> Request:
            if best is not None:
                return Locate(
                    id=entry.id, doc=entry.document(), phrase=entry.words, k=best, nms=nms
                )
            doc = entry.document(prompts.phrase(entry.words))
            return Generate(id=entry.id, doc=doc, decoding=decoding, constraint=held)

        for name, answer in engine.answer(out.requests(request), batch_size=batch_size):
            out.put(name, answer)
