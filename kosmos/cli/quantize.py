"""``kosmos weights quantize``: weights of one byte, and what they cost."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kosmos.cli.options import PATH, echo_json, json_option

if TYPE_CHECKING:
    from kosmos.document.types import Image
    from kosmos.generate.accuracy import Agreement

PROMPTS = (
    "Question: What is the largest animal that has ever lived? Answer:",
    "The train was late again, so we",
    "A recipe for bread: take flour, water, salt and",
    "Once upon a time there was a king who had three",
    "Water boils at one hundred degrees because",
    "Question: Who wrote the book that you are reading? Answer:",
    "In the year 1969, for the first time,",
    "The review said that the film was too long, but",
)
"""Beginnings that a language model has something to say behind."""


@click.command("quantize", short_help="A model folder with weights of one byte.")
@click.argument("source", type=PATH)
@click.argument("target", type=PATH)
@click.option(
    "--images",
    type=PATH,
    help="Folder of pictures to measure with.  [default: pictures made for it]",
)
@click.option(
    "--prompts",
    "num_prompts",
    default=len(PROMPTS),
    type=click.IntRange(min=0),
    help="Prompts of each kind to measure the cost on; 0 measures nothing.",
)
@click.option(
    "--tokens", "num_tokens", default=16, type=click.IntRange(min=1), help="Tokens of each reply."
)
@click.option("--seed", default=0, help="Of the pictures made.")
@click.option("--force", is_flag=True, help="Replace an earlier result at TARGET.")
@json_option()
def command(
    source: Path,
    target: Path,
    images: Path | None,
    num_prompts: int,
    num_tokens: int,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Write the model folder SOURCE with int8 weights at TARGET, and measure what that costs.

    SOURCE is a folder of ours or of Hugging Face's. Its replies to some prompts, words and, if the
    model sees, pictures, are read by both models: how often both find the same token likeliest,
    and how far apart their scores are.

    Example: kosmos weights quantize kosmos2 kosmos2-int8 --images photos
    """
    from kosmos.document.types import Image
    from kosmos.generate.request_file import folder_pictures
    from kosmos.runtime import peak_memory_bytes
    from kosmos.weights.folder_config import check_model_folder
    from kosmos.weights.quantize import quantize_folder

    check_quantized = functools.partial(check_model_folder, is_quantized=True)
    check_target(target, source, check=check_quantized, force=force)
    pictures = None
    if images is not None and num_prompts:  # before the work, or one without any is found after it
        found = folder_pictures(images, limit=num_prompts)
        pictures = [Image(entry.images[0]) for entry in found if entry.problem is None]
    made = quantize_folder(source, target)
    peak = peak_memory_bytes()
    facts = {"folder": str(target), **dataclasses.asdict(made), "peak_bytes": peak}
    if not as_json:
        click.echo(
            f"{target}  {made.num_parameters:,} parameters, int8\n"
            f"size     {made.bytes_before / 1e9:.3f} GB before, "
            f"{made.bytes_after / 1e9:.3f} GB after\n"
            f"time     {made.seconds:.1f} s, peak memory {peak / 1e9:.2f} GB"
        )
    if num_prompts:
        costs = _measure(source, target, pictures, num_prompts, num_tokens, seed)
        facts["cost"] = {kind: dataclasses.asdict(cost) for kind, cost in costs.items()}
        if not as_json:
            for kind, cost in costs.items():
                click.echo(_words(kind, cost))
    if as_json:
        echo_json(facts)


def check_target(target: Path, *sources: Path, check: Callable[[Path], None], force: bool) -> None:
    """Fail before the work if its result has no place, not after it.

    Args:
        target: Where it goes.
        sources: What it is made from.
        check: Raises if what is there may not be replaced.
        force: Whether anything may be.

    Raises:
        ConfigError: Naming what lies there.
    """
    from kosmos.errors import ConfigError
    from kosmos.weights.folder_config import check_apart

    check_apart(target, *sources)
    if target.exists() and not force:
        raise ConfigError(f"{target}: expected nothing there", hint="--force replaces it")
    check(target)


def _measure(
    source: Path,
    target: Path,
    pictures: "Sequence[Image] | None",
    num_prompts: int,
    num_tokens: int,
    seed: int,
) -> "dict[str, Agreement]":
    """What the conversion costs on each kind of prompt; one model in memory at a time."""
    from kosmos.document.types import Document, Text
    from kosmos.generate.accuracy import compare_logits, read_replies
    from kosmos.generate.generator import Generator
    from kosmos.text.prompts import CAPTION, GROUNDED_CAPTION

    model = Generator.load(source)
    kinds = {"words": [Document([Text(words)]) for words in PROMPTS[:num_prompts]]}
    if model.model.vision is not None:
        words = GROUNDED_CAPTION if model.tokenizer.vocabulary.num_cells else CAPTION
        kinds["pictures"] = [
            Document([image, Text(words)]) for image in _pictures(pictures, num_prompts, seed)
        ]
    replies = {
        kind: model.generate(docs, max_new_tokens=num_tokens) for kind, docs in kinds.items()
    }
    exact = {kind: read_replies(model, docs, replies[kind]) for kind, docs in kinds.items()}
    del model
    model = Generator.load(target)
    return {
        kind: compare_logits(exact[kind], read_replies(model, docs, replies[kind]))
        for kind, docs in kinds.items()
    }


def _pictures(found: "Sequence[Image] | None", num_pictures: int, seed: int) -> "Sequence[Image]":
    """Those of a folder, or scenes of a microcosm."""
    from kosmos.microcosm.config import MicrocosmConfig
    from kosmos.microcosm.documents import picture
    from kosmos.microcosm.world import sample_scene

    if found is not None:
        return found
    world = MicrocosmConfig(seed=seed)
    return [picture(sample_scene(world, "quantize", n), world) for n in range(num_pictures)]


def _words(kind: str, cost: "Agreement") -> str:
    return (
        f"{kind:8} same next token at {cost.same_token:.1%} of {cost.num_tokens} tokens, "
        f"KL {cost.mean_kl:.2g} nats\n"
        f"{'':8} logits {cost.mean_logit_difference:.2g} apart on average, "
        f"{cost.max_logit_difference:.2g} at most, of a spread of {cost.logit_spread:.2g}"
    )
