from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.microcosm.world import (
    COLORS,
    MIN_CONTRAST,
    OPPOSITE,
    REGIONS,
    RELATIONS,
    clearly,
    contrast,
    count_scenes_of_one,
    kinds,
    main_relation,
    pattern_tone,
    region,
    sample_scene,
)
from tests.strategies import boxes

CONFIG = MicrocosmConfig()


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(CONFIG, "test", index) for index in range(6000)]


def test_scene_is_a_pure_function_of_seed_and_keys():
    assert sample_scene(CONFIG, "train", 5) == sample_scene(CONFIG, "train", 5)
    assert sample_scene(CONFIG, "train", 5) != sample_scene(CONFIG, "heldout", 5)
    assert sample_scene(CONFIG, "train", 5) != sample_scene(replace(CONFIG, seed=1), "train", 5)


def test_there_are_more_than_300_000_different_scenes(scenes):
    assert count_scenes_of_one(CONFIG) > 300_000
    digests = [scene.digest for scene in scenes]
    # the birthday bound: with at least 4 million scenes of each size, pairs are rare among 3000
    assert len(set(digests)) >= len(digests) - 5


def test_digest_tells_arrangements_apart_and_ignores_backgrounds(scenes):
    scene = next(scene for scene in scenes if len(scene.things) > 1)
    other = next(s for s in scenes if s.background != scene.background).background
    assert replace(scene, background=other).digest == scene.digest
    assert replace(scene, things=scene.things[::-1]).digest == scene.digest
    moved = replace(scene.things[0], x=scene.things[0].x - 1)
    assert replace(scene, things=(moved, *scene.things[1:])).digest != scene.digest


def test_things_lie_inside_and_hardly_over_each_other(scenes):
    for scene in scenes:
        everything = [scene.box(index) for index in range(len(scene.things))]
        assert 1 <= len(everything) <= CONFIG.max_objects
        for index, box in enumerate(everything):
            box.checked("scene")
            others = everything[:index] + everything[index + 1 :]
            assert all(box.intersection(other).area <= 0.05 * box.area for other in others)


def test_numbers_of_things_are_about_equally_frequent(scenes):
    counts = Counter(len(scene.things) for scene in scenes)
    numbers = range(1, CONFIG.max_objects + 1)
    assert min(counts[n] for n in numbers) > 0.8 / CONFIG.max_objects * len(scenes)


def test_things_stand_out_from_their_background(scenes):
    weakest = []
    for scene in scenes:
        tones = [thing.rgb for thing in scene.things]
        tones += [pattern_tone(thing.rgb) for thing in scene.things if thing.texture != "plain"]
        weakest.append(min(contrast(tone, scene.background.rgb) for tone in tones))
    assert min(weakest) > 0.7 * MIN_CONTRAST
    assert sum(weak < MIN_CONTRAST for weak in weakest) < 0.05 * len(weakest)


def test_every_color_has_equally_many_kinds_of_each_group():
    counts = Counter((kind.color, kind.group) for kind in kinds(CONFIG))
    assert len(kinds(CONFIG)) == 44
    for color in COLORS:
        assert (counts[color, "seen"], counts[color, "both"], counts[color, "told"]) == (2, 1, 1)
    assert len({(kind.shape, kind.color) for kind in kinds(CONFIG)}) == 44
    assert len({kind.name for kind in kinds(CONFIG)}) == 44


def test_kinds_are_the_same_whatever_the_seed_of_the_dataset():
    assert kinds(replace(CONFIG, seed=9)) == kinds(CONFIG)
    assert kinds(replace(CONFIG, world_seed=9)) != kinds(CONFIG)


def test_animals_look_like_their_kind_and_told_kinds_are_never_pictured(scenes):
    by_name = {kind.name: kind for kind in kinds(CONFIG)}
    shown = set()
    for scene in scenes:
        for thing in scene.things:
            if thing.kind:
                kind = by_name[thing.kind]
                shown.add(kind.name)
                assert (thing.shape, thing.color, thing.size) == (kind.shape, kind.color, kind.size)
                assert thing.texture == "plain"
    assert shown == {kind.name for kind in kinds(CONFIG) if kind.group != "told"}


def test_kinds_differ_in_size_as_pictures_show_them(scenes):
    sides = {"small": [], "medium": [], "large": []}
    for scene in scenes:
        for thing in scene.things:
            if thing.kind:
                sides[thing.size].append(max(thing.width, thing.height))
    assert max(sides["small"]) < min(sides["medium"])
    assert max(sides["medium"]) < min(sides["large"])


def test_colors_of_objects_are_independent_of_the_animals_beside_them(scenes):
    same = total = 0
    for scene in scenes:
        beside = {thing.color for thing in scene.things if thing.kind}
        for thing in scene.things:
            if not thing.kind and beside:
                total += len(beside)
                same += thing.color in beside
    # 1/11 of about 3000 pairs: three standard deviations are 1.6 percentage points
    assert total > 2500
    assert abs(same / total - 1 / 11) < 0.016


@given(boxes(), boxes())
def test_relations_are_opposites_and_never_both(a, b):
    for relation, opposite in OPPOSITE.items():
        assert clearly(relation, a, b, 0.1) == clearly(opposite, b, a, 0.1)
        assert not (clearly(relation, a, b, 0.1) and clearly(opposite, a, b, 0.1))


def test_main_relation_is_along_the_longer_axis():
    middle = Box(0.4, 0.4, 0.6, 0.6)
    assert main_relation(Box(0.0, 0.3, 0.2, 0.5), middle, 0.1) == "left of"
    assert main_relation(Box(0.45, 0.8, 0.65, 1.0), middle, 0.1) == "below"
    assert main_relation(middle, middle, 0.1) is None
    assert set(RELATIONS) == set(OPPOSITE)


@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_region_names_the_ninth_or_nothing_near_an_edge(x, y):
    name = region(Box(x - 0.1, y - 0.1, x + 0.1, y + 0.1))
    if min(abs(v - edge) for v in (x, y) for edge in (0.4, 0.6)) < 0.029:
        assert name is None
    elif name is not None:
        assert name in REGIONS
        assert ("left" in name) == (x < 0.4)
        assert ("bottom" in name) == (y > 0.6)
        assert (name == "center") == (0.4 < x < 0.6 and 0.4 < y < 0.6)
