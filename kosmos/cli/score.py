"""``kosmos score``: how likely a model finds given continuations."""

import json

import click

from kosmos.cli.answers import read_all
from kosmos.cli.options import ModelChoice, images_option, json_option, model_options
from kosmos.document.types import Document, Text


@click.command()
@model_options
@images_option(required=False, text="A picture before the prompt, - for stdin; may be repeated.")
@click.option("--prompt", default="", help="Words before the candidates; may carry markup.")
@click.option(
    "--candidate",
    "candidates",
    multiple=True,
    required=True,
    help="A continuation; may be repeated.",
)
@click.option("--end", is_flag=True, help="Count </s> after a candidate as well.")
@json_option
def command(
    model: ModelChoice,
    images: tuple[str, ...],
    prompt: str,
    candidates: tuple[str, ...],
    end: bool,
    as_json: bool,
) -> None:
    """Natural-log probability of each candidate after the prompt: sum, and mean per token.

    The columns are sum, mean, number of tokens and candidate, in the order given.

    Example: kosmos score --model DIR --image dog.jpg --prompt "Is it a dog?" --candidate Yes
    --candidate No
    """
    generator = model.load()
    shown = read_all(images, max_pixels=generator.image.max_pixels)
    words = [Text(prompt)] if prompt else []
    scores = generator.score(Document([*shown, *words]), candidates, end=end)
    rows = list(zip(candidates, scores, strict=True))
    if as_json:
        best = {
            "best_by_sum": max(rows, key=lambda row: row[1].logprob)[0],
            "best_by_mean": max(rows, key=lambda row: row[1].mean_logprob)[0],
        }
        scored = [
            {
                "candidate": candidate,
                "logprob": score.logprob,
                "mean_logprob": score.mean_logprob,
                "num_tokens": score.num_tokens,
            }
            for candidate, score in rows
        ]
        asked = {"images": list(images), "prompt": prompt}
        click.echo(json.dumps({**asked, "scores": scored, **best}))
        return
    for candidate, score in rows:
        click.echo(
            f"{score.logprob:.4f}\t{score.mean_logprob:.4f}\t{score.num_tokens}\t{candidate}"
        )
