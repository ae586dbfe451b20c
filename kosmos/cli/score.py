"""``kosmos score``: how likely a model finds given continuations."""

import click

from kosmos.cli.options import ModelChoice, model_options
from kosmos.cli.output import WorkChoice, answers, work_options
from kosmos.files import Json
from kosmos.generate.request import Score
from kosmos.generate.request_file import Entry
from kosmos.generate.sinks.words import score_lines


@click.command()
@model_options
@work_options(
    image="A picture before the prompt, - for stdin; may be repeated.",
    without=("pictures", "draw", "coco", "html"),
)
@click.option(
    "--prompt",
    default="",
    show_default=False,
    help="Words before the candidates; may carry markup.",
)
@click.option("--candidate", "candidates", multiple=True, help="A continuation; may be repeated.")
@click.option("--end", is_flag=True, help="Count </s> after a candidate as well.")
def command(
    model: ModelChoice, work: WorkChoice, prompt: str, candidates: tuple[str, ...], end: bool
) -> None:
    """Natural-log probability of each candidate after the prompt: sum, and mean per token.

    The columns are sum, mean, number of tokens and candidate, in the order given.

    Example: kosmos score --model DIR --image dog.jpg --prompt "Is it a dog?" --candidate Yes
    --candidate No

    Example: kosmos score --model DIR --requests choices.jsonl --jsonl scores.jsonl
    """
    work.check(one_prompt=True)
    if work.requests is not None:
        entries = work.entries("prompt", prompt, needs_image=False, candidates=candidates)
    elif candidates:
        entries = work.one("prompt", prompt, candidates)
    else:
        raise click.UsageError("expected --candidate, found none")

    def request(entry: Entry) -> Score:
        doc = entry.document(entry.words)
        return Score(id=entry.id, doc=doc, candidates=entry.candidates, end=end)

    made_by: dict[str, Json] = {"prompt": prompt, "end": end, "candidates": [*candidates]}
    with answers(work, entries, model, score_lines, made_by) as (engine, out):
        if engine is not None:
            for name, answer in engine.answer(out.requests(request)):
                out.put(name, answer)
