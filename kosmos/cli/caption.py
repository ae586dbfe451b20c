"""``kosmos caption``: say what is in a picture."""

import click

from kosmos import config as configs
from kosmos.cli.constraint import ConstraintChoice, constraint_options
from kosmos.cli.options import ModelChoice, batch_option, decoding_options, model_options
from kosmos.cli.output import WorkChoice, work_options, worklist
from kosmos.generate.config import Decoding
from kosmos.generate.request import Generate
from kosmos.generate.sinks.words import reply_lines
from kosmos.text import prompts


@click.command()
@model_options
@work_options(
    image="A picture, - for stdin; repeat for one caption each.", without=("draw", "coco")
)
@click.option("--prompt", default=prompts.CAPTION, show_default=True, help="Words to continue.")
@constraint_options("choices")
@decoding_options
@batch_option
def command(
    model: ModelChoice,
    work: WorkChoice,
    prompt: str,
    constraint: ConstraintChoice,
    decoding: Decoding,
    batch_size: int,
) -> None:
    """Say what is in a picture.

    A bad picture is named on stderr; the others are captioned all the same, and the exit code is 1.

    Example: kosmos caption --model DIR --image dog.jpg --num-beams 5

    Example: kosmos caption --model DIR --images photos --jsonl captions.jsonl --html captions.html
    """
    work.check()
    entries = work.entries("prompt", prompt)
    made_by = {"prompt": prompt, "decoding": configs.to_json(decoding), **constraint.settings()}
    with worklist(work, entries, model, made_by, reply_lines) as out:
        if not out.todo:
            return
        engine = model.load()
        held = constraint.make(engine)
        requests = out.requests(
            lambda entry: Generate(
                id=entry.id, doc=entry.document(entry.words), decoding=decoding, constraint=held
            )
        )
        for name, answer in engine.answer(requests, batch_size=batch_size):
            out.put(name, answer, constraint.row(answer))
