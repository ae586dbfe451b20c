"""``kosmos ground``: caption a picture and say where things are."""

import click

from kosmos.cli.answers import Answers, Printer, print_answers, span_lines
from kosmos.cli.boxes import BoxFileChoice, BoxFiles, box_file_options
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
@images_option(required=False, text="A picture, - for stdin; repeat for one reply each.")
@click.option("--detail", is_flag=True, help="Ask for a long description.")
@click.option("--prompt", help="Words to continue instead; begin them with <grounding>.")
@box_file_options
@constraint_options("grammar")
@decoding_options
@batch_option
@work_options(folder=True)
@json_option
def command(
    model: ModelChoice,
    images: tuple[str, ...],
    detail: bool,
    prompt: str | None,
    box_files: BoxFileChoice,
    constraint: ConstraintChoice,
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
        box_files.refuse_list()
        form = Form(field="prompt", words=words)
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
    box_files.check(len(names))
    answers = Answers(
        model.load(), names, words, decoding=decoding, batch_size=batch_size, constraint=constraint
    )
    several = len(names) > 1
    printer = Printer(as_json=as_json, several=several, files=BoxFiles(box_files, several=several))
    print_answers(
        answers, printer, text=lambda reply: "\n".join([reply.text, *span_lines(reply.grounded)])
    )
