"""Pictures of scenes: anti-aliased shapes with textures and eyes over varied backgrounds.

A shape is drawn once for each size on a grid ``supersample`` times finer and averaged down to a
coverage mask, which is then pasted in the thing's color: edges are smooth, the mask fills its
box to the last pixel, and a picture costs a fraction of a millisecond.
"""

import math
from functools import lru_cache

import numpy as np
import PIL.Image
import PIL.ImageDraw
from jaxtyping import UInt8

from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.world import Scene, Thing, pattern_tone

Point = tuple[float, float]
WHITE, DARK = (252, 252, 252), (12, 12, 14)


def render(scene: Scene, config: MicrocosmConfig) -> PIL.Image.Image:
    """The picture of a scene, RGB, ``image_size`` pixels a side."""
    picture = PIL.Image.fromarray(_background(scene))
    for thing in scene.things:
        draw_thing(picture, thing, config.supersample)
    return picture


def draw_thing(picture: PIL.Image.Image, thing: Thing, supersample: int) -> None:
    """Draw one thing into a picture, over what is there."""
    corner = (thing.x, thing.y)
    size = (thing.width, thing.height)
    body = PIL.Image.new("RGB", size, thing.rgb)
    if thing.texture != "plain":
        pattern = _pattern_mask(thing.texture, *size, supersample)
        body.paste(pattern_tone(thing.rgb), (0, 0), pattern)
    if thing.kind:
        whites, darks = _eye_masks(thing.shape, *size, supersample)
        body.paste(DARK, (0, 0), darks[0])
        body.paste(WHITE, (0, 0), whites)
        body.paste(DARK, (0, 0), darks[1])
    picture.paste(body, corner, shape_mask(thing.shape, *size, supersample))


@lru_cache(maxsize=4096)
def shape_mask(shape: str, width: int, height: int, supersample: int) -> PIL.Image.Image:
    """Coverage of a shape that fills a box of the given size, 0 to 255."""
    wide, high = width * supersample, height * supersample
    mask = PIL.Image.new("L", (wide, high), 0)
    draw = PIL.ImageDraw.Draw(mask)
    if shape in ("circle", "ring"):
        draw.ellipse((0, 0, wide - 1, high - 1), fill=255)
        if shape == "ring":
            inset = round(0.26 * wide)
            draw.ellipse((inset, inset, wide - 1 - inset, high - 1 - inset), fill=0)
    else:
        outline = _filling(_OUTLINES[shape])
        draw.polygon([(x * (wide - 1), y * (high - 1)) for x, y in outline], fill=255)
    return mask.reduce(supersample)


def _filling(points: list[Point]) -> list[Point]:
    """Points moved and stretched so that they reach all four sides of the unit square."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return [
        ((x - min(xs)) / (max(xs) - min(xs)), (y - min(ys)) / (max(ys) - min(ys)))
        for x, y in points
    ]


def _star() -> list[Point]:
    # tips are cut a little flat: a tip thinner than a pixel would be too faint to see in its box
    points: list[Point] = []
    for tip in range(5):
        angle = 2 * math.pi * tip / 5 - math.pi / 2
        for offset, radius in ((-0.07, 1.0), (0.07, 1.0), (math.pi / 5, 0.5)):
            points.append((radius * math.cos(angle + offset), radius * math.sin(angle + offset)))
    return points


def _heart() -> list[Point]:
    points = []
    for step in range(80):
        t = 2 * math.pi * step / 80
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x, -y))
    return points


_ARM = 0.32
_END = 1.0 - _ARM
_OUTLINES: dict[str, list[Point]] = {
    "square": [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)],
    "triangle": [(0.47, 0.0), (0.53, 0.0), (1.0, 1.0), (0.0, 1.0)],
    "diamond": [(0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)],
    "cross": [
        (_ARM, 0.0), (_END, 0.0), (_END, _ARM), (1.0, _ARM), (1.0, _END), (_END, _END),
        (_END, 1.0), (_ARM, 1.0), (_ARM, _END), (0.0, _END), (0.0, _ARM), (_ARM, _ARM),
    ],
    "star": _star(),
    "heart": _heart(),
}  # fmt: skip


@lru_cache(maxsize=4096)
def _pattern_mask(texture: str, width: int, height: int, supersample: int) -> PIL.Image.Image:
    """Where a texture's second tone is; the period follows the size and stays above 4 pixels."""
    period = max(5.0, max(width, height) / 4.5)
    ys, xs = np.mgrid[0 : height * supersample, 0 : width * supersample] / supersample
    if texture == "striped":
        second = (ys % period) < 0.45 * period
    elif texture == "checkered":
        half = period * 0.75
        second = ((xs // half) + (ys // half)) % 2 == 1
    else:
        # every other row of dots is shifted by half a period
        row = ys // period
        across = (xs + (row % 2) * period / 2) % period - period / 2
        down = ys % period - period / 2
        second = across**2 + down**2 < (0.3 * period) ** 2
    fine = PIL.Image.fromarray(np.where(second, 255, 0).astype(np.uint8))
    return fine.reduce(supersample)


# height of the eyes, and their distance from the middle, as fractions of the box's sides
_EYES = {
    "circle": (0.38, 0.20),
    "square": (0.34, 0.22),
    "triangle": (0.66, 0.17),
    "star": (0.46, 0.15),
    "heart": (0.36, 0.22),
    "diamond": (0.46, 0.19),
    "cross": (0.48, 0.20),
}


@lru_cache(maxsize=4096)
def _eye_masks(
    shape: str, width: int, height: int, supersample: int
) -> tuple[PIL.Image.Image, tuple[PIL.Image.Image, PIL.Image.Image]]:
    """Coverage of the whites, and of what is dark: their rims and the pupils."""
    radius = max(2.0, 0.105 * width)
    level, apart = _EYES[shape]
    masks = []
    for part in (radius + 0.7, radius, 0.5 * radius):
        mask = PIL.Image.new("L", (width * supersample, height * supersample), 0)
        draw = PIL.ImageDraw.Draw(mask)
        reach = max(apart * width, radius + 0.2)
        for x in (width / 2 - reach, width / 2 + reach):
            y = level * height
            draw.ellipse(
                [v * supersample for v in (x - part, y - part, x + part, y + part)], fill=255
            )
        masks.append(mask.reduce(supersample))
    rims, whites, pupils = masks
    return whites, (rims, pupils)


def _background(scene: Scene) -> UInt8[np.ndarray, "height width 3"]:
    style, rgb, other, seed = scene.background
    side = scene.side
    first, second = np.array(rgb, np.float32), np.array(other, np.float32)
    ys, xs = np.mgrid[0:side, 0:side].astype(np.float32)
    # a fine pattern keeps its period in pixels of a 64-pixel picture
    unit = side / 64
    phase = seed % 5
    if style == "gradient":
        along = (xs, ys, (xs + ys) / 2, (xs + side - 1 - ys) / 2)[seed % 4] / (side - 1)
        share = along
    elif style == "grid":
        share = (
            ((xs + phase * unit) % (8 * unit) < unit) | ((ys + phase * unit) % (8 * unit) < unit)
        ) * 1.0
    elif style == "lines":
        across = (xs, ys, xs + ys)[seed % 3]
        share = ((across + phase * unit) % (5 * unit) < 2 * unit) * 1.0
    elif style == "noise":
        share = np.random.Generator(np.random.PCG64(seed)).random((side, side), dtype=np.float32)
    else:
        share = np.zeros((side, side), np.float32)
    pixels = first + share[..., None] * (second - first)
    rounded: UInt8[np.ndarray, "height width 3"] = np.rint(pixels).astype(np.uint8)
    return rounded
