import pytest

from kosmos import runtime
from kosmos.errors import MissingExtraError


def test_random_streams_depend_on_seed_and_every_key() -> None:
    draws = {
        tuple(runtime.generator(seed, *keys).integers(0, 2**60, 4))
        for seed in (0, 1)
        for keys in ((), ("a",), ("a", 1), ("a", 2), ("b", 1))
    }
    assert len(draws) == 10
    again = tuple(runtime.generator(0, "a", 1).integers(0, 2**60, 4))
    assert again in draws


def test_a_missing_package_names_the_install_line() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'openkosmos\[train\]'"):
        runtime.require("a_package_that_is_not_there", extra="train")


def test_peak_memory_is_that_of_a_python_process() -> None:
    assert 5e6 < runtime.peak_memory_bytes() < 1e12
