"""Strict conversion: what is missing, left over or misshapen is named."""

import pytest

from kosmos.errors import CheckpointError
from kosmos.weights.convert import ignored_names, match, rename

WANTED = {"a.weight": (2, 3), "b": (4,)}
TABLE = {"a": "x.one", "b": "x.two"}
FOUND = {"x.one.weight": (2, 3), "x.two": (4,)}


def test_matching_names_are_paired():
    assert match(WANTED, FOUND, table=TABLE, where="f") == {
        "a.weight": "x.one.weight",
        "b": "x.two",
    }
    assert match(WANTED, WANTED, where="f") == {"a.weight": "a.weight", "b": "b"}


def test_gap_is_named():
    with pytest.raises(CheckpointError, match=r"^f: expected the 2 tensors .* missing x\.two"):
        match(WANTED, {"x.one.weight": (2, 3)}, table=TABLE, where="f")


def test_leftover_is_named():
    with pytest.raises(CheckpointError, match=r"left over x\.three"):
        match(WANTED, {**FOUND, "x.three": (1,)}, table=TABLE, where="f")


def test_wrong_shape_is_named_with_both_shapes():
    with pytest.raises(CheckpointError, match=r"x\.two \[5\] instead of \[4\]"):
        match(WANTED, {**FOUND, "x.two": (5,)}, table=TABLE, where="f")


def test_many_names_are_counted():
    found = {**FOUND, **{f"y.{i}": (1,) for i in range(10)}}
    with pytest.raises(CheckpointError, match="and 6 more"):
        match(WANTED, found, table=TABLE, where="f")


def test_ignored_names_are_left_out_and_reported():
    found = {**FOUND, "text.anything": (9,)}
    pairs = match(WANTED, found, table=TABLE, where="f", ignored=[r"text\..*"])
    assert ignored_names(found, pairs) == ("text.anything",)


def test_tensor_without_a_name_on_the_other_side_is_refused():
    with pytest.raises(CheckpointError, match=r"c\.weight: expected a tensor the other format"):
        rename("c.weight", TABLE)
