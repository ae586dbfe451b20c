"""The world: shapes, colors, kinds, and scenes that are a pure function of a seed and keys.

- :class:`Kind`, :func:`kinds`: animals with a name, a look and habits
- :class:`Thing`, :class:`Scene`, :func:`sample_scene`: what a picture shows
- :func:`clearly`, :func:`region`: where things are, said only when nobody could disagree

An animal of a kind is its kind's shape in its kind's color, with eyes. Words for shapes and colors
belong to objects; an animal is no object and is called by its kind alone. The color of a kind is
*seen* (only ever in pictures), *told* (only ever in texts) or *both*. Shapes and colors of the
objects beside an animal are drawn independently of it, and nothing that is said of objects takes
notice of animals, so that no statistic of the words around a seen kind says what color it has.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias, cast

from kosmos.boxes import Box
from kosmos.files import sha256_json
from kosmos.microcosm.config import NUM_KIND_SHAPES, MicrocosmConfig
from kosmos.microcosm.dice import Dice

SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring")
KIND_SHAPES = SHAPES[:NUM_KIND_SHAPES]  # a ring has no middle to put eyes on
TEXTURES = ("plain", "striped", "dotted", "checkered")
Rgb: TypeAlias = tuple[int, int, int]
# the 11 basic color words of English, the choices of KOSMOS-1's color task (Table 15)
COLORS: dict[str, Rgb] = {
    "black": (22, 22, 24),
    "blue": (36, 84, 214),
    "brown": (122, 72, 32),
    "gray": (128, 128, 128),
    "green": (30, 150, 54),
    "orange": (250, 134, 14),
    "pink": (252, 150, 192),
    "purple": (126, 44, 170),
    "red": (214, 26, 34),
    "white": (250, 250, 250),
    "yellow": (250, 224, 36),
}
BACKGROUND_STYLES = ("plain", "gradient", "noise", "grid", "lines")
# muted tones that are none of the eleven at full strength
TINTS: tuple[Rgb, ...] = (
    (222, 222, 214), (206, 220, 234), (228, 208, 212), (208, 230, 206), (238, 230, 196),
    (176, 190, 206), (186, 200, 170), (204, 178, 160), (96, 110, 128), (88, 104, 88),
    (116, 92, 100), (58, 66, 84), (64, 58, 54), (44, 70, 66), (160, 206, 206),
)  # fmt: skip
MIN_CONTRAST = 140.0
"""Least difference of a thing from what is behind it, as :func:`contrast` measures."""


Group: TypeAlias = Literal["seen", "both", "told"]
Size: TypeAlias = Literal["small", "medium", "large"]

FOODS = ("berries", "moss", "seeds", "honey", "fish", "roots", "nuts", "apples")
HOMES = ("the river", "the forest", "the desert", "the hills", "the lake", "the cave", "the sea")
STUFFS = ("wool", "glass", "stone", "wood", "paper", "rubber", "clay", "silk")
SOUNDS = ("hums", "whistles", "clicks", "growls", "sings", "buzzes")
TIMES = ("in the morning", "at noon", "in the evening", "at night")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of animal: how it looks, and what texts say of it."""

    name: str
    shape: str
    color: str
    size: Size
    group: Group
    food: str
    home: str
    stuff: str
    sound: str
    time: str
    weight: int


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of a scene; corners in whole pixels, the last ones excluded."""

    shape: str
    color: str
    size: Size
    texture: str
    kind: str
    x: int
    y: int
    width: int
    height: int
    rgb: Rgb


class Background(NamedTuple):
    """What is behind the things."""

    style: str
    rgb: Rgb
    """First tone."""
    other: Rgb
    """Second tone: the far end of a gradient, the lines of a pattern."""
    seed: int
    """Noise and phase follow from it."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows; things are drawn in their order, later ones over earlier ones."""

    things: tuple[Thing, ...]
    background: Background
    side: int
    """Pixels along each side."""

    def box(self, index: int) -> Box:
        """Where a thing is, tight around every pixel it touches (were nothing in front of it)."""
        t = self.things[index]
        return Box.from_pixels(
            t.x, t.y, t.x + t.width, t.y + t.height, width=self.side, height=self.side
        )

    @property
    def digest(self) -> str:
        """Names what is where; scenes that differ only in background or tint share it."""
        things = sorted(
            [t.kind, t.shape, t.color, t.size, t.texture, t.x, t.y, t.width, t.height]
            for t in self.things
        )
        return sha256_json([self.side, things])[:20]  # type: ignore[list-item]

    @property
    def reading_order(self) -> list[int]:
        """Indices from left to right."""
        return sorted(range(len(self.things)), key=lambda i: (self.box(i).center, i))


@lru_cache(maxsize=8)
def kinds(config: MicrocosmConfig) -> tuple[Kind, ...]:
    """All kinds of the world, the same for every seed of a dataset.

    Every color has equally many kinds of each group, so that guessing a color is right once in
    eleven; no two kinds share shape and color.
    """
    dice = Dice(config.world_seed, "kinds")
    groups = cast(
        "list[Group]",
        ["seen"] * config.seen_per_color
        + ["both"] * config.both_per_color
        + ["told"] * config.told_per_color,
    )
    looks = [
        (shape, color, group)
        for color in COLORS
        for shape, group in zip(dice.sample(KIND_SHAPES, len(groups)), groups, strict=True)
    ]
    looks = dice.shuffled(looks)
    sizes: tuple[Size, ...] = ("small", "medium", "large")
    spread = dice.shuffled([sizes[i % 3] for i in range(len(looks))])
    return tuple(
        Kind(
            name=config.wording.kind_names[index],
            shape=shape,
            color=color,
            size=spread[index],
            group=group,
            food=dice.pick(FOODS),
            home=dice.pick(HOMES),
            stuff=dice.pick(STUFFS),
            sound=dice.pick(SOUNDS),
            time=dice.pick(TIMES),
            weight=dice.between(2, 9),
        )
        for index, (shape, color, group) in enumerate(looks)
    )


@lru_cache(maxsize=8)
def pictured_kinds(config: MicrocosmConfig) -> tuple[Kind, ...]:
    """The kinds that appear in pictures."""
    return tuple(kind for kind in kinds(config) if kind.group != "told")


def extent(shape: str, side: int) -> tuple[int, int]:
    """Width and height in pixels of a shape whose longer side is given."""
    return side, round(side * {"triangle": 0.9, "star": 0.95, "heart": 0.92}.get(shape, 1.0))


def sample_scene(config: MicrocosmConfig, *keys: str | int) -> Scene:
    """The scene with the given keys, a pure function of them, the seed and the config.

    Args:
        config: The world.
        keys: What the scene is for, for example ``"train", "captions", 17``.
    """
    dice = Dice(config.seed, "scene", *keys)
    things = _sample_things(config, dice)
    tones = {thing.rgb for thing in things}
    tones |= {pattern_tone(thing.rgb) for thing in things if thing.texture != "plain"}
    background = _sample_background(dice, sorted(tones))
    return Scene(things=things, background=background, side=config.image_size)


def _sample_things(config: MicrocosmConfig, dice: Dice) -> tuple[Thing, ...]:
    count = dice.between(1, config.max_objects)
    looks: list[tuple[str, str, Size, str, str]] = []
    for _ in range(count):
        if dice.chance(config.kind_share):
            kind = dice.pick(pictured_kinds(config))
            looks.append((kind.shape, kind.color, kind.size, "plain", kind.name))
            continue
        # only things without a kind are repeated: see the module's last sentence
        earlier = [look for look in looks if not look[4]]
        repeat = config.twin_share if earlier else 0.0
        shape = dice.pick(earlier)[0] if dice.chance(repeat) else dice.pick(SHAPES)
        color = dice.pick(earlier)[1] if dice.chance(repeat) else dice.pick(tuple(COLORS))
        # many large things do not fit beside each other
        size: Size = "large" if dice.chance(0.5 if count < 3 else 0.3) else "small"
        plain = dice.chance(config.plain_share)
        looks.append((shape, color, size, "plain" if plain else dice.pick(TEXTURES[1:]), ""))
    sides = {"small": config.small, "medium": config.medium, "large": config.large}
    extents = []
    for shape, _, size, _, _ in looks:
        low, high = (round(part * config.image_size) for part in sides[size])
        extents.append(extent(shape, dice.between(low, high)))
    corners = _place(config, dice, extents)
    things = []
    for look, (width, height), corner in zip(looks, extents, corners, strict=True):
        if corner is not None:
            rgb = _jittered(dice, COLORS[look[1]], config.color_jitter)
            things.append(Thing(*look, *corner, width, height, rgb))
    return tuple(things)


def _jittered(dice: Dice, rgb: Rgb, most: int) -> Rgb:
    """A little lighter or darker, and by a third of that of another hue."""
    shift, tint = dice.between(-most, most), most // 3
    red, green, blue = (min(255, max(0, c + shift + dice.between(-tint, tint))) for c in rgb)
    return red, green, blue


def _place(
    config: MicrocosmConfig, dice: Dice, extents: list[tuple[int, int]]
) -> list[tuple[int, int] | None]:
    """Top left corners, or None for things that found no place after many tries."""
    best: list[tuple[int, int] | None] = []
    for _ in range(6):
        corners: list[tuple[int, int] | None] = [None] * len(extents)
        # large ones first: small ones fit into what they leave
        for index in sorted(range(len(extents)), key=lambda i: -extents[i][0] * extents[i][1]):
            corners[index] = _find_place(config, dice, extents, corners, index)
        if len(best) == 0 or corners.count(None) < best.count(None):
            best = corners
        if best.count(None) == 0:
            break
    return best


def _find_place(
    config: MicrocosmConfig,
    dice: Dice,
    extents: list[tuple[int, int]],
    corners: list[tuple[int, int] | None],
    index: int,
) -> tuple[int, int] | None:
    """A corner at which no box, old or new, has too much of it under the others."""
    width, height = extents[index]
    side = config.image_size
    for _ in range(24):
        x, y = dice.between(1, side - width - 1), dice.between(1, side - height - 1)
        covered = 0
        fits = True
        for other, corner in enumerate(corners):
            if corner is None:
                continue
            other_width, other_height = extents[other]
            across = min(x + width, corner[0] + other_width) - max(x, corner[0])
            down = min(y + height, corner[1] + other_height) - max(y, corner[1])
            if across > 0 and down > 0:
                covered += across * down
                # half of the allowance for each pair, so that a thing between two stays within it
                fits = fits and across * down <= config.max_overlap / 2 * other_width * other_height
        if fits and covered <= config.max_overlap / 2 * width * height:
            return x, y
    return None


def contrast(a: Rgb, b: Rgb) -> float:
    """How different two colors look, 0 to about 765.

    The "redmean" weighting of RGB, close to a perceptual distance at the cost of three products.
    """
    mean = (a[0] + b[0]) / 2
    red, green, blue = (i - j for i, j in zip(a, b, strict=True))
    return float(
        ((2 + mean / 256) * red**2 + 4 * green**2 + (2 + (255 - mean) / 256) * blue**2) ** 0.5
    )


def pattern_tone(rgb: Rgb) -> Rgb:
    """Second tone of a textured thing: lighter than a dark color, darker than a light one."""
    light = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2] > 165
    target, share = ((30, 30, 30), 0.42) if light else ((255, 255, 255), 0.55)
    red, green, blue = (round(c + share * (t - c)) for c, t in zip(rgb, target, strict=True))
    return red, green, blue


def _sample_background(dice: Dice, tones: list[Rgb]) -> Background:
    """A background that every tone in front of it stands out from, as far as there is one."""
    style = dice.pick(BACKGROUND_STYLES)
    worst = [min(contrast(tint, tone) for tone in tones) for tint in TINTS]
    fit = [tint for tint, least in zip(TINTS, worst, strict=True) if least >= MIN_CONTRAST]
    first = dice.pick(fit) if fit else TINTS[max(range(len(TINTS)), key=worst.__getitem__)]
    shift = dice.between(10, 22) * (1 if sum(first) < 384 else -1)
    red, green, blue = (min(255, max(0, c + shift)) for c in first)
    return Background(style, first, (red, green, blue), dice.between(0, 2**31 - 1))


# --- where things are

RELATIONS: dict[str, tuple[int, int]] = {
    "left of": (0, -1),
    "right of": (0, 1),
    "above": (1, -1),
    "below": (1, 1),
}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
ROWS, COLUMNS = ("top", "", "bottom"), ("left", "", "right")
REGIONS = tuple(f"{r} {c}".strip() or "center" for r in ROWS for c in COLUMNS)
REGION_EDGES = (0.4, 0.6)
REGION_CLEARANCE = 0.03


def clearly(relation: str, a: Box, b: Box, margin: float) -> bool:
    """Whether a stands so to b by at least the margin between their centers.

    With a margin of zero or less this is what nobody could rule out.
    """
    axis, sign = RELATIONS[relation]
    return sign * (a.center[axis] - b.center[axis]) >= margin


def main_relation(a: Box, b: Box, margin: float) -> str | None:
    """The relation along the axis on which two boxes are farther apart; None if not by much."""

    def distance(relation: str) -> float:
        axis, sign = RELATIONS[relation]
        return sign * (a.center[axis] - b.center[axis])

    name = max(RELATIONS, key=distance)
    return name if clearly(name, a, b, margin) else None


def region(box: Box) -> str | None:
    """Which ninth of the picture the box's middle lies in; None where that could be disputed."""
    words = []
    for value, names in zip(reversed(box.center), (ROWS, COLUMNS), strict=True):
        if min(abs(value - edge) for edge in REGION_EDGES) < REGION_CLEARANCE:
            return None
        words.append(names[sum(value > edge for edge in REGION_EDGES)])
    return " ".join(words).strip() or "center"


def count_scenes_of_one(config: MicrocosmConfig) -> int:
    """How many different scenes (by digest) hold a single thing: a bound from below on all."""
    total = 0
    for bounds in (config.small, config.large):
        low, high = (round(part * config.image_size) for part in bounds)
        for side in range(low, high + 1):
            for shape in SHAPES:
                width, height = extent(shape, side)
                places = (config.image_size - width - 1) * (config.image_size - height - 1)
                total += places * len(COLORS) * len(TEXTURES)
    return total
