"""``kosmos caption``: say what is in a picture."""

import click

from kosmos.cli.answers import Answers, Printer, print_answers
from kosmos.cli.constraint import ConstraintChoice, constraint_options
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
@images_option(required=False, text="A picture, - for stdin; repeat for one caption each.")
@click.option("--prompt", default=prompts.CAPTION, show_default=True, help="Words to continue.")
@constraint_options("choices")
@decoding_options
@batch_option
@work_options(folder=True)
@json_option
def command(
    model: ModelChoice,
    images: tuple[str, ...],
    prompt: str,
    constraint: ConstraintChoice,
    decoding: Decoding,
    batch_size: int,
    work: WorkChoice,
    as_json: bool,
) -> None:
    """Say what is in a picture.

    A bad picture is named on stderr; the others are captioned all the same, and the exit code is 1.

    Example: kosmos caption --model DIR --image dog.jpg --num-beams 5

    Example: kosmos caption --model DIR --images photos --jsonl captions.jsonl
    """
    check_sources(work, images)
    if work.is_list:
        form = Form(field="prompt", words=prompt)
        answer_list(
            model,
            work,
            form,
            names=images,
            decoding=decoding,
            batch_size=batch_size,
            constraint=constraint,
        )
        return
    names = folder_names(work, images)
    answers = Answers(
        model.load(), names, prompt, decoding=decoding, batch_size=batch_size, constraint=constraint
    )
    several = len(names) > 1
    printer = Printer(as_json=as_json, several=several)
    print_answers(answers, printer, text=lambda reply: reply.text)
