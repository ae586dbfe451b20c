"""kosmos.data.config."""

import pytest

from kosmos.config import override
from kosmos.data.config import Corpus, DataConfig, Stream, skipped_steps
from kosmos.data.rules import stream_rules
from kosmos.document.layout import Layout
from kosmos.errors import ConfigError
from kosmos.findings import raise_first_error
from kosmos.image.config import ImageConfig

NAN = float("nan")


def stream(**fields: object) -> Stream:
    settings = {"name": "some", "sequences_per_step": 1, "tokens_per_sequence": 1.0, **fields}
    return Stream(**settings)  # type: ignore[arg-type]


def corpora(*names: str) -> tuple[Corpus, ...]:
    return tuple(Corpus(name=name, weight=1.0) for name in names)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("sequences_per_step", 0), ("max_tokens", 1), ("max_unusable", 1.5)),
        *(("max_unusable", -0.1), ("max_unusable", NAN)),
        *(("tokens_per_sequence", value) for value in (-1.0, 0.0, NAN, float("inf"))),
        *(("images_per_sequence", value) for value in (-1.0, NAN, float("inf"))),
    ],
)
def test_impossible_streams_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"streams.some.{field}: expected"):
        stream(**{field: value})


def test_two_corpora_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"streams.some.corpora: expected unique names.*'a'"):
        stream(corpora=corpora("a", "b", "a"))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_corpus_has_a_weight(weight: float) -> None:
    with pytest.raises(ConfigError, match=r"corpora.web.weight: expected a positive number"):
        Corpus(name="web", weight=weight)


@pytest.mark.parametrize("field", ["num_tokens", "stated_epochs"])
@pytest.mark.parametrize("value", [-1.0, float("inf"), NAN])
def test_what_a_paper_states_of_a_corpus_is_a_number(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"corpora.web.{field}: expected 0 or more"):
        Corpus(name="web", weight=1.0, **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [("heldout_sequences", 0), ("num_cells", -1), ("micro_batch_tokens", -1)],
)
def test_impossible_data_is_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"data.{field}: expected"):
        DataConfig(image=ImageConfig(), layout=Layout(), streams=(stream(),), **{field: value})  # type: ignore[arg-type]


def test_a_corpus_has_a_name_that_can_be_written_behind_its_streams() -> None:
    for name in ("", "a/b"):
        with pytest.raises(ConfigError, match="expected a name without '/'"):
            Corpus(name=name, weight=1.0)


def test_a_stream_of_one_folder_is_one_source() -> None:
    one = stream(path="here", heldout_path="there")
    (source,) = one.sources
    assert (source.path, source.heldout_path) == ("here", "there")
    assert one.source_name(source) == "some"
    assert one.setting(source) == "streams.some"


def test_corpora_without_a_path_are_left_out_by_one_setting() -> None:
    mixed = override(stream(corpora=corpora("web", "books")), "corpora.web.path=folder")
    assert [source.name for source in mixed.sources] == ["web", "books"]
    mixed = override(mixed, "missing_corpora=drop")
    assert [mixed.source_name(source) for source in mixed.sources] == ["some/web"]
    assert mixed.setting(mixed.sources[0]) == "streams.some.corpora.web"


@pytest.mark.parametrize("field", ["path", "heldout_path"])
def test_a_stream_has_a_path_or_corpora(field: str) -> None:
    with pytest.raises(ConfigError, match=rf"streams.some.{field}: expected none") as error:
        raise_first_error(stream_rules(stream(corpora=corpora("a"), **{field: "folder"})))
    assert error.value.hint is not None
    assert "streams.some.corpora=[]" in error.value.hint


def test_a_stream_whose_corpora_are_all_left_out_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected one with a path, found none of 2"):
        raise_first_error(stream_rules(stream(corpora=corpora("a", "b"), missing_corpora="drop")))


@pytest.mark.parametrize(
    ("texts", "ranges"),
    [
        ([], ()),
        (["7"], (range(6, 7),)),
        (["1200-1250", "7"], (range(6, 7), range(1199, 1250))),
        (["3-5", "4-9", "10"], (range(2, 10),)),
    ],
)
def test_skipped_steps_are_put_in_order(texts: list[str], ranges: tuple[range, ...]) -> None:
    assert skipped_steps(texts) == ranges


@pytest.mark.parametrize("text", ["", "0", "5-3", "3-", "a", "-4", "1.5"])
def test_what_is_no_range_of_steps_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data.skip_steps: expected a step or a range"):
        skipped_steps([text])
