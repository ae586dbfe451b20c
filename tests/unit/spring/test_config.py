import json
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos import config
from kosmos.errors import ConfigError
from kosmos.recipes.table import ALIASES, RECIPES, make_run
from kosmos.train.config import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    name: str = "a"
    rate: float = 0.5
    kind: Literal["up", "down"] = "up"
    pair: tuple[float, float] = (0.0, 1.0)
    maybe: int | None = None
    flag: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    steps: int = 1
    leaf: Leaf = Leaf()
    leaves: tuple[Leaf, ...] = (Leaf(name="a"), Leaf(name="b"))


PRESETS = {"tall": Leaf(rate=9.0), "of another kind": Tree()}


@given(
    st.builds(
        Leaf,
        name=st.text(),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        kind=st.sampled_from(["up", "down"]),
        maybe=st.none() | st.integers(),
        flag=st.booleans(),
    )
)
def test_json_round_trip_keeps_every_value(leaf: Leaf) -> None:
    tree = Tree(leaf=leaf)
    again = config.from_json(Tree, json.loads(json.dumps(config.to_json(tree))))
    assert again == tree
    assert config.digest(again) == config.digest(tree)


@pytest.mark.parametrize(
    ("assignment", "read"),
    [
        ("steps=7", lambda tree: tree.steps == 7),
        ("leaf.rate=1", lambda tree: tree.leaf.rate == 1.0 and isinstance(tree.leaf.rate, float)),
        ("leaf.rate=2e-4", lambda tree: tree.leaf.rate == 2e-4),
        ("leaf.name=12", lambda tree: tree.leaf.name == "12"),
        ("leaf.kind=down", lambda tree: tree.leaf.kind == "down"),
        ("leaf.pair=[0.9,0.98]", lambda tree: tree.leaf.pair == (0.9, 0.98)),
        ("leaf.maybe=3", lambda tree: tree.leaf.maybe == 3),
        ("leaf.maybe=None", lambda tree: tree.leaf.maybe is None),
        ("leaf.flag=true", lambda tree: tree.leaf.flag is True),
        ("leaves.b.rate=4", lambda tree: tree.leaves[1].rate == 4.0 and tree.leaves[0].rate == 0.5),
        ("leaf=tall", lambda tree: tree.leaf == PRESETS["tall"]),
        ('leaf={"kind": "down"}', lambda tree: tree.leaf == Leaf(kind="down")),
        (
            'leaves.c={"rate": 2}',
            lambda tree: tree.leaves[1:] == (Leaf(name="b"), Leaf(name="c", rate=2.0)),
        ),
    ],
)
def test_text_is_read_by_the_type_of_the_field(assignment: str, read: object) -> None:
    assert read(config.override(Tree(), assignment))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("stpes=7", "did you mean 'steps'"),
        ("leaf.raet=7", "did you mean 'rate'"),
        ("leaves.c.rate=1", "known: a, b"),
        ("steps=many", "expected int, found 'many'"),
        ("steps=1.5", "expected int, found 1.5"),
        ("steps=true", "expected int, found True"),
        ("leaf.kind=sideways", "expected one of 'up', 'down'"),
        ("leaf.pair=[1]", "expected"),
        ("steps", "expected name=value"),
        ("steps.deeper=1", "no fields"),
        (
            "leaf=tal",
            "expected a Leaf or the name of one, found 'tal' (hint: did you mean 'tall'?)",
        ),
        ("leaf.rate=NaN", "leaf.rate: expected a finite number, found nan"),
        ("leaf.rate=-Infinity", "leaf.rate: expected a finite number, found -inf"),
        ("leaf.rate=1e999", "leaf.rate: expected a finite number, found inf"),
        ("leaf.pair=[0.5, NaN]", "leaf.pair[1]: expected a finite number, found nan"),
        ("leaf.rate=" + "9" * 400, "leaf.rate: expected float, found '9999"),
        ("steps=" + "9" * 5000, "steps: expected int, found '9999"),
        ("leaves.c=3", "leaves.c: expected an object, found 3"),
        (
            'leaves.c={"raet": 3}',
            "leaves.c.raet: Leaf has no field 'raet' (hint: did you mean 'rate'?)",
        ),
        ("leaf.steps=3", "Leaf has no field 'steps' (hint: did you mean 'steps'?)"),
        ("laef.rate=3", "Tree has no field 'laef' (hint: did you mean 'leaf'?)"),
        ("flga=1", "Tree has no field 'flga' (hint: did you mean 'leaf.flag'?)"),
        ("leaf.steps.x=3", "Leaf has no field 'steps' (hint: did you mean 'steps.x'?)"),
    ],
)
def test_what_cannot_be_set_is_refused_with_a_reason(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.override(Tree(), assignment)
    assert message in str(caught.value)


def test_an_unknown_field_in_json_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"run.json.leaf.raet"):
        config.from_json(Tree, {"leaf": {"raet": 1.0}}, where="run.json")


@pytest.mark.parametrize("name", [*RECIPES, *ALIASES])
def test_every_recipe_is_a_whole_run_that_survives_its_record(name: str) -> None:
    run = make_run(name)
    assert config.from_json(Run, config.to_json(run)) == run
    assert run.model.vision is None or run.model.vision.image_size == run.data.image.size
    doc = (RECIPES[ALIASES.get(name, name)].__doc__ or "").lower()
    for word in ("paper:", "command:", "hardware and time:", "should reach:"):
        assert word in doc.replace("source:", "paper:"), word


@pytest.mark.parametrize(
    "assignment",
    ["model.decoder.width=7", "train.learning_rate=-1", "train.warmup_steps=999999999",
     "streams.text.sequences_per_step=0", "image.size=0", "layout.num_image_tokens=0"],
)  # fmt: skip
def test_an_impossible_value_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError):
        make_run("kosmos1", [assignment])


def test_a_stream_is_added_from_the_command_line() -> None:
    mine = '{"path": "x", "sequences_per_step": 4, "tokens_per_sequence": 60, "max_tokens": 64}'
    run = make_run("microcosm", [f"streams.mine={mine}", "streams.mine.packing=isolated"])
    before = make_run("microcosm").data.streams
    assert run.data.streams[:-1] == before
    added = run.data.streams[-1]
    assert (added.name, added.path, added.packing) == ("mine", "x", "isolated")
    with pytest.raises(
        ConfigError, match=r"streams.mine: expected a value for tokens_per_sequence"
    ):
        make_run("microcosm", ['streams.mine={"path": "x", "sequences_per_step": 4}'])


@pytest.mark.parametrize(
    ("assignment", "meant"),
    [
        ("train.micro_batch_tokens=5", "data.micro_batch_tokens"),
        ("stpes=5", "train.steps"),
        ("train.stpes=5", "steps"),
        ("data.learning_rate=1", "train.learning_rate"),
        ("strems.text.path=x", "data.streams.text.path"),
        ("streams.txet.path=x", "text"),
        ("model=mirco", "micro"),
    ],
)
def test_a_name_that_is_wrong_or_in_another_part_is_told_where_it_is(
    assignment: str, meant: str
) -> None:
    with pytest.raises(ConfigError, match=rf"did you mean '{meant}'"):
        make_run("microcosm", [assignment])


def test_a_model_is_given_by_the_name_of_its_preset() -> None:
    run = make_run("kosmos1", ["model=kosmos1-baseline"])
    assert run.model.vision is None
    assert run.model == config.from_json(Run, config.to_json(run)).model


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'kosmos2'"):
        make_run("kosmso2")
