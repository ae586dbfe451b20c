from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.render import draw_thing, render, shape_mask
from kosmos.microcosm.world import (
    BACKGROUND_STYLES,
    COLORS,
    KIND_SHAPES,
    SHAPES,
    TEXTURES,
    Thing,
    contrast,
    extent,
    sample_scene,
)

CONFIG = MicrocosmConfig()


def alone(thing, side=64):
    """Pixels of a thing on a black and on a white ground; what differs is not all of it."""
    pixels = []
    for ground in ((0, 0, 0), (255, 255, 255)):
        picture = PIL.Image.new("RGB", (side, side), ground)
        draw_thing(picture, thing, CONFIG.supersample)
        pixels.append(np.asarray(picture).astype(int))
    touched = (pixels[0] != 0).any(-1) | (pixels[1] != 255).any(-1)
    return touched, pixels


def a_thing(shape, side, *, texture="plain", kind="", color="red"):
    return Thing(shape, color, "small", texture, kind, 7, 9, *extent(shape, side), COLORS[color])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [14, 15, 17, 20, 26, 29])
def test_boxes_are_tight_to_the_pixel(shape, side):
    for texture in TEXTURES:
        thing = a_thing(shape, side, texture=texture)
        touched, _ = alone(thing)
        rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
        found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert found == (thing.x, thing.y, thing.x + thing.width, thing.y + thing.height)


@pytest.mark.parametrize("shape", KIND_SHAPES)
def test_eyes_stay_inside_the_body_and_show(shape):
    for side in (14, 20, 29):
        plain, animal = a_thing(shape, side), a_thing(shape, side, kind="dax")
        (touched, body), (with_eyes, eyed) = alone(plain), alone(animal)
        assert (touched == with_eyes).all()
        changed = (np.abs(body[0] - eyed[0]).sum(-1) > 100).sum()
        assert changed >= 16


def test_edges_are_smooth():
    mask = np.asarray(shape_mask("circle", 20, 20, 4))
    assert ((mask > 20) & (mask < 235)).sum() > 20
    assert (mask == 255).sum() > 200
    assert np.array_equal(mask, mask[::-1])


def test_colors_are_recognized_by_the_nearest_of_eleven():
    for index in range(400):
        scene = sample_scene(CONFIG, "colors", index)
        thing = scene.things[-1]
        pixels = np.asarray(render(replace(scene, things=(thing,)), CONFIG))
        inside = pixels[thing.y : thing.y + thing.height, thing.x : thing.x + thing.width]
        whole = np.asarray(shape_mask(thing.shape, thing.width, thing.height, 4)) == 255
        if thing.texture == "plain" and not thing.kind:
            seen = tuple(int(v) for v in np.median(inside[whole], axis=0))
            assert min(COLORS, key=lambda name: contrast(COLORS[name], seen)) == thing.color


def test_shapes_and_textures_differ_in_many_pixels():
    for side in (14, 26):
        looks = {
            (shape, texture): alone(a_thing(shape, side, texture=texture))[1][0]
            for shape in SHAPES
            for texture in TEXTURES
        }
        names = list(looks)
        for number, first in enumerate(names):
            for second in names[number + 1 :]:
                a, b = looks[first], looks[second]
                rows = min(len(a), len(b))
                assert (np.abs(a[:rows] - b[:rows]).sum(-1) > 60).sum() >= 12, (first, second)


def test_no_thing_is_hidden_by_more_than_15_percent():
    for index in range(1500):
        scene = sample_scene(CONFIG, "hidden", index)
        cover = np.zeros((scene.side, scene.side))
        for thing in reversed(scene.things):
            mask = np.asarray(shape_mask(thing.shape, thing.width, thing.height, 4)) / 255
            under = cover[thing.y : thing.y + thing.height, thing.x : thing.x + thing.width]
            assert (mask * under).sum() <= 0.15 * mask.sum()
            np.maximum(under, mask, out=under)


def test_pictures_are_the_same_every_time_and_of_the_size_asked_for():
    for size in (64, 96):
        config = replace(CONFIG, image_size=size)
        scene = sample_scene(config, "size", 3)
        picture = render(scene, config)
        assert picture.size == (size, size)
        assert picture.mode == "RGB"
        assert picture.tobytes() == render(scene, config).tobytes()


def test_every_background_style_is_drawn():
    scene = sample_scene(CONFIG, "styles", 0)
    looks = set()
    for style in BACKGROUND_STYLES:
        background = scene.background._replace(style=style)
        looks.add(render(replace(scene, background=background), CONFIG).tobytes())
    assert len(looks) == len(BACKGROUND_STYLES)
