"""``kosmos ground``: caption a picture and say where things are."""

import click

from kosmos.cli.options import ModelChoice, model_options
from kosmos.cli.output import WorkChoice, answers, work_options
from kosmos.cli.replies import ReplyChoice, reply_options
from kosmos.generate.sinks.words import grounded_lines
from kosmos.text import prompts


@click.command()
@model_options
@work_options(image="A picture, - for stdin; repeat for one reply each.")
@click.option("--detail", is_flag=True, help="Ask for a long description.")
@click.option("--prompt", help="Words to continue instead; begin them with <grounding>.")
@reply_options("grammar")
def command(
    model: ModelChoice, work: WorkChoice, detail: bool, prompt: str | None, replies: ReplyChoice
) -> None:
    """Caption a picture and say where things are, in pixels of the picture as it is.

    Example: kosmos ground --model DIR --image dog.jpg --draw boxes.png

    Example: kosmos ground --model DIR --images photos --jsonl boxes.jsonl --coco boxes.json
    """
    work.check()
    if prompt is not None and detail:
        raise click.UsageError("--detail and --prompt: expected one of them, found both")
    words = prompt or (prompts.GROUNDED_DETAIL if detail else prompts.GROUNDED_CAPTION)
    entries = work.entries("prompt", words)
    made_by = {"prompt": words, **replies.settings()}
    with answers(work, entries, model, grounded_lines, made_by, replies=replies) as (engine, out):
        if engine is not None:
            requests = out.requests(lambda e: replies.generate(e, e.document(e.words)))
            for name, answer in engine.answer(requests, batch_size=replies.batch_size):
                out.put(name, answer, replies.row(answer))
