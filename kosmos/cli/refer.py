"""``kosmos refer``: say where a described thing is."""

from dataclasses import replace

import click

from kosmos.cli.options import ModelChoice, model_options
from kosmos.cli.output import WorkChoice, answers, work_options
from kosmos.cli.replies import ReplyChoice, reply_options
from kosmos.generate.config import FIRST_BOX, GREEDY
from kosmos.generate.request import Locate, Request
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
@reply_options("grammar")
def command(
    model: ModelChoice,
    work: WorkChoice,
    expression: str | None,
    best: int | None,
    nms: float | None,
    replies: ReplyChoice,
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
    if best is not None and (replies.decoding != GREEDY or replies.grammar):
        raise click.UsageError("--best: expected no option of decoding, as no reply is written")
    replies.decoding = replace(replies.decoding, stop_after=FIRST_BOX.stop_after)
    entries = [
        replace(entry, asked={**entry.asked, "expression": entry.words})
        if entry.problem is None
        else entry
        for entry in work.entries("expression", expression)
    ]

    def request(entry: Entry) -> Request:
        if best is None:
            return replies.generate(entry, entry.document(prompts.phrase(entry.words)))
        return Locate(id=entry.id, doc=entry.document(), phrase=entry.words, k=best, nms=nms)

    made_by = replies.settings() if best is None else {"best": best, "nms": nms}
    is_best = best is not None
    with answers(
        work, entries, model, box_lines, made_by, replies=replies, show_confidence=is_best
    ) as (engine, out):
        if engine is not None:
            requests = out.requests(request)
            for name, answer in engine.answer(requests, batch_size=replies.batch_size):
                out.put(name, answer)
