"""``kosmos refer``: say where a described thing is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kosmos.cli.answers import Answers, PictureFiles, Printer, print_answers, span_lines
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
from kosmos.document.types import Document, Image
from kosmos.files import Json
from kosmos.generate.config import GREEDY, Decoding
from kosmos.generate.export import located_span, span_to_json
from kosmos.generate.reply import Reply
from kosmos.text import prompts

if TYPE_CHECKING:
    from kosmos.generate.generator import Generator


@click.command()
@model_options
@images_option(required=False, text="A picture, - for stdin; repeat for one reply each.")
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
@box_file_options
@constraint_options("grammar")
@decoding_options
@batch_option
@work_options(folder=True)
@json_option
def command(
    model: ModelChoice,
    images: tuple[str, ...],
    expression: str | None,
    best: int | None,
    nms: float | None,
    box_files: BoxFileChoice,
    constraint: ConstraintChoice,
    decoding: Decoding,
    batch_size: int,
    work: WorkChoice,
    as_json: bool,
) -> None:
    """Say where a described thing is, in pixels of the picture as it is; best box first.

    Example: kosmos refer --model DIR --image dog.jpg --expression "the dog on the left"

    Example: kosmos refer --model DIR --image dog.jpg --expression "a dog" --best 5 --nms 0.5

    Example: kosmos refer --model DIR --requests expressions.jsonl --jsonl boxes.jsonl
    """
    check_sources(work, images)
    if expression is None and work.requests is None:
        raise click.UsageError("expected --expression, found none")
    if nms is not None and best is None:
        raise click.UsageError("--nms: expected --best, whose boxes it thins out")
    if best is not None and (decoding != GREEDY or constraint.is_set):
        raise click.UsageError("--best: expected no option of decoding, as no reply is written")
    if work.is_list:
        box_files.refuse_list()
        if best is not None:
            raise click.UsageError("--best: expected neither --jsonl nor --requests with it")
        form = Form(field="expression", words=expression, prompt=prompts.phrase)
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
    several = len(names) > 1
    files = BoxFiles(box_files, several=several, show_confidence=best is not None)
    printer = Printer(as_json=as_json, several=several, files=files)
    engine, sought = model.load(), expression or ""
    if best is not None:
        _print_best(engine, names, sought, best, nms, batch_size=batch_size, printer=printer)
        return
    words = prompts.phrase(sought)
    answers = Answers(
        engine, names, words, decoding=decoding, batch_size=batch_size, constraint=constraint
    )
    print_answers(answers, printer, text=_boxes)


def _print_best(
    engine: "Generator",
    names: Sequence[str],
    expression: str,
    best: int,
    nms: float | None,
    *,
    batch_size: int,
    printer: Printer,
) -> None:
    pictures = PictureFiles(names, max_pixels=engine.image.max_pixels, batch_size=batch_size)
    for good in pictures:
        docs = [Document([Image(picture)], id=name) for name, picture in good]
        found = engine.locate(docs, expression, k=best, nms=nms, batch_size=batch_size)
        for (name, picture), boxes in zip(good, found, strict=True):
            span = located_span(expression, boxes)
            row: dict[str, Json] = {"expression": expression, "grounded": [span_to_json(span)]}
            text = "\n".join(span_lines([span]))
            printer.print(name, picture, row=row, text=text, spans=[span], title=expression)
    printer.finish()
    pictures.finish()


def _boxes(reply: Reply) -> str:
    lines = span_lines(reply.grounded)
    if not lines:
        click.echo("not found: the reply has no box", err=True)
    return "\n".join(lines)
