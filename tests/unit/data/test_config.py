"""kosmos.data.config."""

import pytest

from kosmos.data.config import Stream
from kosmos.errors import ConfigError


@pytest.mark.parametrize(
    ("field", "value"),
    [("sequences_per_step", 0), ("max_tokens", 1), ("max_unusable", 1.5), ("max_unusable", -0.1)],
)
def test_impossible_streams_are_refused_by_name(field: str, value: float) -> None:
    fields = {"sequences_per_step": 1, "tokens_per_sequence": 1.0, field: value}
    with pytest.raises(ConfigError, match=rf"streams.some.{field}: expected"):
        Stream(name="some", path="", **fields)  # type: ignore[arg-type]
