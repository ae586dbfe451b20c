"""Documents of every kind, each a pure function of the config, a split and an index.

What a document is made of is named in its meta: ``scenes``, the digests of the scenes its
pictures show (or of its words, if it has none). By them training, held-out and evaluation
documents are kept apart.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TypeAlias

from kosmos.document.types import Document, Grounded, Image, Part, Text
from kosmos.files import Json
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.dice import Dice
from kosmos.microcosm.expressions import expressions, pick_expression
from kosmos.microcosm.instructions import (
    comprehension_parts,
    generation_parts,
    triplet_parts,
    write_triplet,
)
from kosmos.microcosm.language import (
    Phrase,
    Segment,
    caption,
    detailed,
    grounded_parts,
    plain_text,
    references,
)
from kosmos.microcosm.pages import write_page
from kosmos.microcosm.prose import SIZE_ORDER, write_text
from kosmos.microcosm.questions import ask
from kosmos.microcosm.render import render
from kosmos.microcosm.world import COLORS, Scene, kinds, sample_scene
from kosmos.text.prompts import EXPRESSION_TEMPLATES, question

Maker: TypeAlias = Callable[[MicrocosmConfig, str, int], Document]


def picture(scene: Scene, config: MicrocosmConfig) -> Image:
    """A scene as PNG bytes."""
    file = io.BytesIO()
    # level 1: a tenth of the time of level 6 for a few percent more bytes
    render(scene, config).save(file, "PNG", compress_level=1)
    return Image(file.getvalue())


def words_digest(text: str) -> str:
    """Names the words of a document without pictures."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:20]


def text(config: MicrocosmConfig, split: str, index: int) -> Document:
    """Words about the world."""
    words = write_text(config, Dice(config.seed, split, "text", index), split, index)
    return Document([Text(words)], id=f"{split}-text-{index:07}", meta=_meta([words_digest(words)]))


def instruct(config: MicrocosmConfig, split: str, index: int) -> Document:
    """A language-only instruction; only the output is learned."""
    triplet = write_triplet(config, Dice(config.seed, split, "instruct", index))
    meta: dict[str, Json] = {
        "instruction": triplet.instruction,
        "input": triplet.input,
        "output": triplet.output,
        "scenes": [words_digest("\n".join(triplet))],
    }
    return Document(triplet_parts(triplet), id=f"{split}-instruct-{index:07}", meta=meta)


def captions(config: MicrocosmConfig, split: str, index: int) -> Document:
    """A picture and a caption."""
    scene, dice = _scene_and_dice(config, split, "captions", index)
    long = dice.chance(config.detail_share)
    said = plain_text(detailed(scene) if long else caption(scene, config, dice))
    return _pictured(config, split, "captions", index, scene, [Text(said)])


def grounded(config: MicrocosmConfig, split: str, index: int) -> Document:
    """A picture with a grounded caption, or with a few referring expressions and their boxes."""
    scene, dice = _scene_and_dice(config, split, "grounded", index)
    said: list[Segment] = []
    if dice.chance(config.expression_share):
        for thing in dice.shuffled(range(len(scene.things)))[:3]:
            expression = pick_expression(scene, thing, config, dice)
            if expression is not None:
                said += [*(["; "] if said else []), Phrase(expression.text, (thing,))]
    if said:
        segments = [*said, "."]
    else:
        long = dice.chance(config.detail_share)
        segments = detailed(scene) if long else caption(scene, config, dice)
    return _pictured(config, split, "grounded", index, scene, grounded_parts(segments, scene))


def vqa(config: MicrocosmConfig, split: str, index: int) -> Document:
    """A picture with questions and answers; only the answers are learned.

    Since words after an answer are never learned, a model that answers one question ends there.
    """
    scene, dice = _scene_and_dice(config, split, "vqa", index)
    parts: list[Text | Grounded] = []
    asked: set[str] = set()
    for _ in range(dice.between(1, config.max_questions)):
        item = ask(scene, config, dice)
        if item.text not in asked:
            asked.add(item.text)
            between = " " if parts else ""
            parts += [Text(between + question(item.text), loss=False), Text(f" {item.answer}")]
    return _pictured(config, split, "vqa", index, scene, parts)


def interleaved(config: MicrocosmConfig, split: str, index: int) -> Document:
    """A page of several pictures."""
    page = write_page(
        config, Dice(config.seed, split, "interleaved", index), split, "interleaved", index
    )
    parts: list[Part] = [
        picture(part, config) if isinstance(part, Scene) else part for part in page
    ]
    digests = [part.digest for part in page if isinstance(part, Scene)]
    return Document(parts, id=f"{split}-interleaved-{index:07}", meta=_meta(digests))


def grounded_instruct(config: MicrocosmConfig, split: str, index: int) -> Document:
    """A picture with "what is it?" about a box, or "where is it?" about an expression."""
    number = 0
    while True:
        scene, dice = _scene_and_dice(config, split, "grounded_instruct", index, number)
        thing = dice.between(0, len(scene.things) - 1)
        expression = pick_expression(scene, thing, config, dice)
        if expression is not None:
            break
        number += 1
    box = scene.box(thing)
    if dice.chance(0.5):
        template = dice.between(0, len(EXPRESSION_TEMPLATES) - 1)
        parts = generation_parts(expression.text, box, template, config.num_cells)
    else:
        parts = comprehension_parts(expression.text, box, config.num_cells)
    doc = _pictured(config, split, "grounded-instruct", index, scene, parts)
    return Document(doc.parts, id=doc.id, meta={**doc.meta, "num_cells": config.num_cells})


# --- evaluation sets: parts are what is shown, meta is what is asked and what is right


def eval_captions(config: MicrocosmConfig, split: str, index: int) -> Document:
    """A picture; meta has references that go on after "An image of", and the objects."""
    scene, dice = _scene_and_dice(config, split, "captions", index)
    return _shown(
        config, split, "captions", index, scene,
        references=[*references(scene, config, dice)], objects=_objects(scene),
    )  # fmt: skip


def eval_vqa(config: MicrocosmConfig, split: str, index: int) -> Document:
    """A picture; meta has a question, its answers and the choices."""
    scene, dice = _scene_and_dice(config, split, "vqa", index)
    item = ask(scene, config, dice)
    return _shown(
        config, split, "vqa", index, scene,
        question=item.text, answers=[item.answer], choices=list(item.choices), kind=item.kind,
    )  # fmt: skip


def eval_referring(config: MicrocosmConfig, split: str, index: int) -> Document:
    """A picture of several things; meta has an expression, its box and what else would fit it."""
    number = 0
    while True:
        scene, dice = _scene_and_dice(config, split, "referring", index, number)
        thing = dice.between(0, len(scene.things) - 1)
        expression = pick_expression(scene, thing, config, dice)
        if len(scene.things) > 1 and expression is not None:
            break
        number += 1
    box = scene.box(thing)
    others = [item.text for item in expressions(scene, thing, config)]
    return _shown(
        config, split, "referring", index, scene,
        expression=expression.text, form=expression.form, box=[box.x0, box.y0, box.x1, box.y1],
        references=list(dict.fromkeys([expression.text, *others])),
    )  # fmt: skip


def color_questions(config: MicrocosmConfig) -> list[Document]:
    """Every kind, asked for its color without a picture; ``group``: where it can be known from."""
    return [
        Document(
            [],
            id=f"color-{kind.name}",
            meta={
                "object": kind.name,
                "color": kind.color,
                "choices": list(COLORS),
                "group": kind.group,
            },
        )
        for kind in kinds(config)
    ]


def size_questions(config: MicrocosmConfig) -> list[Document]:
    """Pairs of kinds of different size, asked without a picture, as many Yes as No.

    Group ``seen``: pairs whose sizes only pictures show. Group ``told``: pairs that texts compare.
    """
    dice = Dice(config.seed, "eval", "size-knowledge")
    docs = []
    pairs = [
        (a, b)
        for a, b in combinations(kinds(config), 2)
        if a.size != b.size and (a.group == "seen") == (b.group == "seen")
    ]
    for number, (a, b) in enumerate(dice.shuffled(pairs)):
        small, large = sorted((a, b), key=lambda kind: SIZE_ORDER[kind.size])
        first, second = (large, small) if number % 2 == 0 else (small, large)
        docs.append(
            Document(
                [],
                id=f"size-{first.name}-{second.name}",
                meta={
                    "first": first.name,
                    "second": second.name,
                    "answer": "Yes" if number % 2 == 0 else "No",
                    "choices": ["Yes", "No"],
                    "group": "seen" if a.group == "seen" else "told",
                },
            )
        )
    return docs


def _scene_and_dice(
    config: MicrocosmConfig, split: str, part: str, *index: int
) -> tuple[Scene, Dice]:
    """The scene of a document, and dice for its words."""
    return sample_scene(config, split, part, *index), Dice(config.seed, split, part, *index)


def _meta(digests: Sequence[str]) -> dict[str, Json]:
    return {"scenes": list(digests)}


def _pictured(
    config: MicrocosmConfig,
    split: str,
    part: str,
    index: int,
    scene: Scene,
    parts: Sequence[Text | Grounded],
) -> Document:
    return Document(
        [picture(scene, config), *parts],
        id=f"{split}-{part}-{index:07}",
        meta=_meta([scene.digest]),
    )


def _shown(
    config: MicrocosmConfig, split: str, part: str, index: int, scene: Scene, **facts: Json
) -> Document:
    return Document(
        [picture(scene, config)],
        id=f"{split}-{part}-{index:07}",
        meta={**facts, **_meta([scene.digest])},
    )


def _objects(scene: Scene) -> list[Json]:
    """The things of a scene; ``name`` is what captions call them: their kind or their shape."""
    objects: list[Json] = []
    for index, thing in enumerate(scene.things):
        box = scene.box(index)
        objects.append(
            {
                "name": thing.kind or thing.shape,
                "kind": thing.kind or None,
                "color": thing.color,
                "shape": thing.shape,
                "size": thing.size,
                "texture": thing.texture,
                "box": [box.x0, box.y0, box.x1, box.y1],
            }
        )
    return objects
