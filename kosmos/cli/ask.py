"""``kosmos ask``: answer a question about a picture."""

import json

import click

from kosmos.cli.answers import read_all, span_lines
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
from kosmos.cli.worklist import answer_list, check_sources
from kosmos.document.types import Document, Text
from kosmos.generate.config import Decoding
from kosmos.generate.export import reply_to_json
from kosmos.text import prompts
from kosmos.text.vocabulary import GROUNDING


@click.command()
@model_options
@images_option(required=False, text="A picture, - for stdin; repeat to ask about several at once.")
@click.option("--question", help='What to ask: "what is on the table?".')
@click.option("--ground", is_flag=True, help="Ask for boxes in the answer as well.")
@constraint_options("choices", "grammar")
@decoding_options
@batch_option
@work_options(folder=False)
@json_option
def command(
    model: ModelChoice,
    images: tuple[str, ...],
    question: str | None,
    ground: bool,
    constraint: ConstraintChoice,
    decoding: Decoding,
    batch_size: int,
    work: WorkChoice,
    as_json: bool,
) -> None:
    """Answer a question about a picture, about several at once, or about none.

    Example: kosmos ask --model DIR --image dog.jpg --question "what color is the dog?"

    Example: kosmos ask --model DIR --requests questions.jsonl --jsonl answers.jsonl
    """

    def prompt(text: str) -> str:
        return (GROUNDING if ground else "") + prompts.question(text)

    check_sources(work, images, one_prompt=True)
    if constraint.grammar and not ground:
        raise click.UsageError("--grammar: expected --ground, whose boxes it is about")
    if work.is_list:
        form = Form(field="question", words=question, prompt=prompt, needs_image=False)
        answer_list(
            model,
            work,
            form,
            names=(),
            decoding=decoding,
            batch_size=batch_size,
            constraint=constraint,
        )
        return
    if question is None:
        raise click.UsageError("expected --question, found none")
    generator = model.load()
    shown = read_all(images, max_pixels=generator.image.max_pixels)
    reply = generator.generate(
        Document([*shown, Text(prompt(question))]),
        decoding=decoding,
        constraint=constraint.make(generator),
    )
    if as_json:
        asked = {"images": list(images), "question": question}
        click.echo(json.dumps({**asked, **reply_to_json(reply), **constraint.row(reply)}))
    else:
        click.echo("\n".join([reply.text, *span_lines(reply.grounded)]))
