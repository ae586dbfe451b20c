"""``kosmos score``: how likely a model finds given continuations."""

import json

import click

from kosmos.cli.answers import read_all
from kosmos.cli.options import (
    ModelChoice,
    WorkChoice,
    images_option,
    json_option,
    model_options,
    work_options,
)
from kosmos.cli.requests import Form
from kosmos.cli.worklist import check_sources, score_list, scores_json
from kosmos.document.types import Document, Text


@click.command()
@model_options
@images_option(required=False, text="A picture before the prompt, - for stdin; may be repeated.")
@click.option("--prompt", default="", help="Words before the candidates; may carry markup.")
@click.option(
    "--candidate",
    "candidates",
    multiple=True,
    help="A continuation; may be repeated.",
)
@click.option("--end", is_flag=True, help="Count </s> after a candidate as well.")
@work_options(folder=False)
@json_option
def command(
    model: ModelChoice,
    images: tuple[str, ...],
    prompt: str,
    candidates: tuple[str, ...],
    end: bool,
    work: WorkChoice,
    as_json: bool,
) -> None:
    """Natural-log probability of each candidate after the prompt: sum, and mean per token.

    The columns are sum, mean, number of tokens and candidate, in the order given.

    Example: kosmos score --model DIR --image dog.jpg --prompt "Is it a dog?" --candidate Yes
    --candidate No

    Example: kosmos score --model DIR --requests choices.jsonl --jsonl scores.jsonl
    """
    check_sources(work, images, one_prompt=True)
    if work.is_list:
        form = Form(field="prompt", words=prompt, needs_image=False, candidates=candidates)
        score_list(model, work, form, end=end, neutral=None)
        return
    if not candidates:
        raise click.UsageError("expected --candidate, found none")
    generator = model.load()
    shown = read_all(images, max_pixels=generator.image.max_pixels)
    words = [Text(prompt)] if prompt else []
    scores = generator.score(Document([*shown, *words]), candidates, end=end)
    rows = list(zip(candidates, scores, strict=True))
    if as_json:
        asked = {"images": list(images), "prompt": prompt}
        click.echo(json.dumps({**asked, **scores_json(candidates, scores)}))
        return
    for candidate, score in rows:
        click.echo(
            f"{score.logprob:.4f}\t{score.mean_logprob:.4f}\t{score.num_tokens}\t{candidate}"
        )
