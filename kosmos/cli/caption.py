"""``kosmos caption``: say what is in a picture."""

import click

from kosmos.cli.options import ModelChoice, model_options
from kosmos.cli.output import WorkChoice, answers, work_options
from kosmos.cli.replies import ReplyChoice, reply_options
from kosmos.generate.sinks.words import reply_lines
from kosmos.text import prompts


@click.command()
@model_options
@work_options(
    image="A picture, - for stdin; repeat for one caption each.", without=("draw", "coco")
)
@click.option("--prompt", default=prompts.CAPTION, help="Words to continue.")
@reply_options("choices")
def command(model: ModelChoice, work: WorkChoice, prompt: str, replies: ReplyChoice) -> None:
    """Say what is in a picture.

    A bad picture is named on stderr; the others are captioned all the same, and the exit code is 1.

    Example: kosmos caption --model DIR --image dog.jpg --num-beams 5

    Example: kosmos caption --model DIR --images photos --jsonl captions.jsonl --html captions.html
    """
    work.check()
    entries = work.entries("prompt", prompt)
    made_by = {"prompt": prompt, **replies.settings()}
    with answers(work, entries, model, reply_lines, made_by, replies=replies) as (engine, out):
        if engine is not None:
            requests = out.requests(lambda e: replies.generate(e, e.document(e.words)))
            for name, answer in engine.answer(requests, batch_size=replies.batch_size):
                out.put(name, answer, replies.row(answer))
