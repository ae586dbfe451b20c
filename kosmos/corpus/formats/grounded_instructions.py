"""KOSMOS-2's grounded instructions, built from GRIT: where is this, and what is that?

A phrase of a row and its boxes become a document of one of two kinds, drawn by the seed::

    comprehension   <grounding><phrase>a red kite</phrase>        asked
                    <object><patch_index_0264>...</object>        answered
    generation      <grounding>What is <phrase> it </phrase><object>...</object>?
                     It is a red kite.                            one of six templates

Loss falls on what is answered alone. An expression with several boxes is asked for all of them, and
is what each of them is called. The location tokens are of a grid of ``num_cells``, over the picture
that ``image`` says: with another crop than the training's they would point beside the things.

Source: KOSMOS-2 (arXiv:2306.14824) section 3.2 and Table 9.
"""

from collections.abc import Iterator

from kosmos.boxes import Box
from kosmos.corpus.formats.config import GritInstructionsConfig
from kosmos.corpus.formats.grit import GritSample, Phrase, grit_samples
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Image, Text
from kosmos.files import Json
from kosmos.image.transform import ImageTransform
from kosmos.remote import AnyPath
from kosmos.runtime import generator
from kosmos.text import prompts
from kosmos.text.locations import box_to_locations
from kosmos.text.markup import lex


def read_grounded_instructions(
    source: AnyPath, config: GritInstructionsConfig, tally: Tally
) -> Iterator[Document]:
    """A document per phrase of each row of GRIT; rows are read and filtered as ``grit`` does."""
    for sample in grit_samples(source, config, tally):
        if not sample.phrases:
            tally.leave_out("row without a phrase to ask about", sample.id)
        for number, phrase in enumerate(sample.phrases):
            where = f"{sample.id}#{number}"
            expression = sample.caption[phrase.start : phrase.end].strip()
            if not expression or any(lexeme.kind != "words" for lexeme in lex(expression)):
                tally.bad("expression without words, or with markup in it", where)
                continue
            tally.keep()
            parts = _parts(sample, phrase, expression, where, config)
            meta: dict[str, Json] = {
                "source": sample.picture.name,
                "num_cells": config.num_cells,
                "geometry": config.image.geometry,
            }
            yield Document([Image(sample.picture.source), *parts], id=where, meta=meta)


def _parts(
    sample: GritSample, phrase: Phrase, expression: str, where: str, config: GritInstructionsConfig
) -> list[Text]:
    """Question and answer; which of them follows from the seed and the phrase alone."""
    rng = generator(config.seed, "grounded-instruction", where)
    if rng.random() < config.comprehension_share:
        boxes = [_locations(box, sample, config) for box in phrase.boxes]
        return [
            Text(prompts.phrase(expression), role="user", loss=False),
            Text(prompts.box(boxes), role="assistant"),
        ]
    form = prompts.EXPRESSION_TEMPLATES[rng.integers(len(prompts.EXPRESSION_TEMPLATES))]
    box = phrase.boxes[rng.integers(len(phrase.boxes))]
    return [
        Text(form.prompt([_locations(box, sample, config)]), role="user", loss=False),
        Text(form.answer(expression), role="assistant"),
    ]


def _locations(box: Box, sample: GritSample, config: GritInstructionsConfig) -> tuple[int, int]:
    """Where a box lies on the grid over the preprocessed picture."""
    width, height = sample.picture.size
    moved = ImageTransform(config.image).box_in(box, width=width, height=height)
    assert moved is not None  # grit left out those that the crop hides
    return box_to_locations(moved, config.num_cells)
