"""``kosmos ground``: caption a picture and say where things are."""

import click

from kosmos import config as configs
from kosmos.cli.constraint import ConstraintChoice, constraint_options
from kosmos.cli.options import ModelChoice, batch_option, decoding_options, model_options
from kosmos.cli.output import WorkChoice, work_options, worklist
from kosmos.generate.config import Decoding
from kosmos.generate.request import Generate
from kosmos.generate.sinks.words import grounded_lines
from kosmos.text import prompts


@click.command()
@model_options
@work_options(image="A picture, - for stdin; repeat for one reply each.")
@click.option("--detail", is_flag=True, help="Ask for a long description.")
@click.option("--prompt", help="Words to continue instead; begin them with <grounding>.")
@constraint_options("grammar")
@decoding_options
@batch_option
def command(
    model: ModelChoice,
    work: WorkChoice,
    detail: bool,
    prompt: str | None,
    constraint: ConstraintChoice,
    decoding: Decoding,
    batch_size: int,
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
    made_by = {"prompt": words, "decoding": configs.to_json(decoding), **constraint.settings()}
    with worklist(work, entries, model, made_by, grounded_lines) as out:
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
            out.put(name, answer)
