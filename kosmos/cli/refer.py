"""``kosmos refer``: say where a described thing is."""

from pathlib import Path

import click

from kosmos.cli.answers import Answers, print_answers, span_lines
from kosmos.cli.options import (
    ModelChoice,
    WorkChoice,
    batch_option,
    decoding_options,
    images_option,
    json_option,
    model_options,
    work_options,
)
from kosmos.cli.requests import Form
from kosmos.cli.worklist import answer_list, check_sources, folder_names
from kosmos.generate.config import Decoding
from kosmos.generate.reply import Reply
from kosmos.text import prompts


@click.command()
@model_options
@images_option(required=False, text="A picture, - for stdin; repeat for one reply each.")
@click.option("--expression", help='What to find: "the dog on the left".')
@click.option(
    "--draw",
    type=click.Path(path_type=Path),
    help="Write the picture with its boxes as PNG; a folder if there are several pictures.",
)
@decoding_options
@batch_option
@work_options(folder=True)
@json_option
def command(
    model: ModelChoice,
    images: tuple[str, ...],
    expression: str | None,
    draw: Path | None,
    decoding: Decoding,
    batch_size: int,
    work: WorkChoice,
    as_json: bool,
) -> None:
    """Say where a described thing is, in pixels of the picture as it is; best box first.

    Example: kosmos refer --model DIR --image dog.jpg --expression "the dog on the left"

    Example: kosmos refer --model DIR --requests expressions.jsonl --jsonl boxes.jsonl
    """
    check_sources(work, images)
    if expression is None and work.requests is None:
        raise click.UsageError("expected --expression, found none")
    if work.is_list:
        if draw is not None:
            raise click.UsageError("--draw: expected neither --jsonl nor --requests with it")
        form = Form(field="expression", words=expression, prompt=prompts.phrase)
        answer_list(model, work, form, names=images, decoding=decoding, batch_size=batch_size)
        return
    names, words = folder_names(work, images), prompts.phrase(expression or "")
    answers = Answers(model.load(), names, words, decoding=decoding, batch_size=batch_size)
    print_answers(
        answers,
        as_json=as_json,
        several=len(names) > 1,
        text=_boxes,
        draw=draw,
    )


def _boxes(reply: Reply) -> str:
    lines = span_lines(reply)
    if not lines:
        click.echo("not found: the reply has no box", err=True)
    return "\n".join(lines)
