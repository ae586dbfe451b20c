"""kosmos.check.textlint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.check.textlint import splits_word, text_faults


def kinds(text: str) -> list[str]:
    return [fault.what.partition(":")[0].partition(",")[0] for fault in text_faults(text)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<p>a</p><br/><b>dog</b>", "text that is mostly HTML"),
        ("cats &amp; dogs", "HTML entities"),
        ("a caf\u00c3\u00a9", "mojibake"),
        ("it\u00e2\u20ac\u2122s", "mojibake"),
        ("\u00d0\u00bf\u00d1\u20ac\u00d0\u00b8\u00d0\u00b2\u00d0\u00b5\u00d1\u201a", "mojibake"),
        ("lost \ufffd letter", "characters that were lost in decoding (U+FFFD)"),
        ("a\x00b", "control characters"),
        ("<s> a dog </s>", "control tokens typed as text"),
        ("<image> a dog", "control tokens typed as text"),
        ("hello<|endoftext|>", "control tokens of another model typed as text"),
        ("<phrase>a dog</phrase>", "grounding markup typed as text"),
    ],
)
def test_a_fault_is_called_by_its_name(text: str, kind: str) -> None:
    assert kinds(text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "a dog & a cat; 3 < 4 > 2",
        "I <3 you",
        "the tag <b> makes words bold, and that is one tag in a sentence of many words",
        "caf\u00e9, na\u00efve, \u00c5ngstr\u00f6m, S\u00e3o Paulo",
        "\u201cquoted\u201d \u2013 5\u00a0\u20ac",
        "NESCAF\u00c9\u00ae",
        "\u043f\u0440\u0438\u0432\u0435\u0442, \u4f60\u597d, \u0645\u0631\u062d\u0628\u0627",
        "\U0001f600\U0001f468\u200d\U0001f469",
        "two\nlines\tand a tab",
    ],
)
def test_good_text_has_no_fault(text: str) -> None:
    assert kinds(text) == []


@given(
    st.text(
        st.characters(min_codepoint=0xC0, max_codepoint=0x24F, exclude_categories=["Cc", "Cn"]),
        min_size=1,
        max_size=8,
    )
)
def test_latin_letters_read_by_the_wrong_table_are_mojibake_and_the_right_ones_are_not(
    word: str,
) -> None:
    wrong = word.encode("utf-8").decode("latin-1")
    # between spaces: without a neighbor a first byte in Latin-1 may stand for anything
    if wrong[0] in "\u00c3\u00c2" or len(wrong) >= 4:
        assert "mojibake" in kinds(f"a {wrong} b")


def test_words_that_are_cut_are_told_from_words_that_end() -> None:
    assert splits_word("a d", "og")
    assert not splits_word("a ", "dog")
    assert not splits_word("a dog", ", and")
    assert not splits_word("\u4f60", "\u597d")
    assert not splits_word("", "dog")
