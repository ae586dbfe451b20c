"""``kosmos ground``: caption a picture and say where things are."""

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
from kosmos.text import prompts


@click.command()
@model_options
@images_option(required=False, text="A picture, - for stdin; repeat for one reply each.")
@click.option("--detail", is_flag=True, help="Ask for a long description.")
@click.option("--prompt", help="Words to continue instead; begin them with <grounding>.")
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
    detail: bool,
    prompt: str | None,
    draw: Path | None,
    decoding: Decoding,
    batch_size: int,
    work: WorkChoice,
    as_json: bool,
) -> None:
    """Caption a picture and say where things are, in pixels of the picture as it is.

    Example: kosmos ground --model DIR --image dog.jpg --draw boxes.png

    Example: kosmos ground --model DIR --images photos --jsonl boxes.jsonl
    """
    check_sources(work, images)
    if prompt is not None and detail:
        raise click.UsageError("--detail and --prompt: expected one of them, found both")
    words = prompt or (prompts.GROUNDED_DETAIL if detail else prompts.GROUNDED_CAPTION)
    if work.is_list:
        if draw is not None:
            raise click.UsageError("--draw: expected neither --jsonl nor --requests with it")
        form = Form(field="prompt", words=words)
        answer_list(model, work, form, names=images, decoding=decoding, batch_size=batch_size)
        return
    names = folder_names(work, images)
    answers = Answers(model.load(), names, words, decoding=decoding, batch_size=batch_size)
    print_answers(
        answers,
        as_json=as_json,
        several=len(names) > 1,
        text=lambda reply: "\n".join([reply.text, *span_lines(reply)]),
        draw=draw,
    )
