"""The grammar parses, prints, recovers and reports."""

import dataclasses

import pytest
from hypothesis import given

from kosmos.boxes import Box
from kosmos.errors import MarkupError
from kosmos.text.entities import hf_entities, release_entities
from kosmos.text.markup import Markup, Span, lex, parse_markup, print_markup
from tests.strategies import markup_soup, markups

SNOWMAN = (
    "<grounding> An image of<phrase> a snowman</phrase><object><patch_index_0044>"
    "<patch_index_0863></object> warming himself by<phrase> a fire</phrase><object>"
    "<patch_index_0005><patch_index_0911></object>."
)
LOCATIONS = "<patch_index_0001><patch_index_0034>"
OBJECT = f"<object>{LOCATIONS}</object>"
BOX = Box(0.046875, 0.015625, 0.078125, 0.046875)


def phrases(markup: Markup) -> list[tuple[str, int, int, int]]:
    return [(span.text, span.start, span.end, len(span.boxes)) for span in markup.spans]


def test_the_papers_snowman_is_read() -> None:
    markup = parse_markup(SNOWMAN)
    assert markup.text == "An image of a snowman warming himself by a fire."
    assert markup.grounding
    assert not markup.dropped
    snowman, fire = markup.spans
    assert snowman == Span(
        text="a snowman",
        start=12,
        end=21,
        boxes=(Box(0.390625, 0.046875, 0.984375, 0.828125),),
        locations=((44, 863),),
    )
    assert (fire.text, fire.start, fire.end) == ("a fire", 41, 47)
    assert fire.boxes == (Box(0.171875, 0.015625, 0.484375, 0.890625),)


def test_a_phrase_may_have_many_boxes_in_order() -> None:
    text = (
        "<phrase> dogs</phrase><object><patch_index_0044><patch_index_0863>"
        "</delimiter_of_multi_objects/><patch_index_0005><patch_index_0911></object> run"
    )
    markup = parse_markup(text)
    assert markup.text == "dogs run"
    assert markup.spans[0].locations == ((44, 863), (5, 911))
    assert not markup.grounding


def test_a_box_knows_where_its_locations_were_read() -> None:
    text = (
        "a<phrase>dog</phrase><object><patch_index_9999><patch_index_0000>"
        "</delimiter_of_multi_objects/><patch_index_0001><patch_index_0034></object>"
    )
    (span,) = parse_markup(text, lenient=True).spans
    ((first, second),) = span.positions
    assert text[first:].startswith("<patch_index_0001>")
    assert text[second:].startswith("<patch_index_0034>")


def test_a_phrase_without_an_object_is_a_question() -> None:
    markup = parse_markup("<grounding><phrase>a dog</phrase>")
    assert phrases(markup) == [("a dog", 0, 5, 0)]
    assert print_markup(markup) == "<grounding><phrase>a dog</phrase>"


def test_the_grid_may_have_another_size() -> None:
    text = "<phrase>a</phrase><object><patch_index_0000><patch_index_0005></object>"
    assert parse_markup(text, num_cells=4).spans[0].boxes == (Box(0.125, 0.125, 0.375, 0.375),)


def test_without_a_grid_all_text_is_words() -> None:
    text = "an <object> of <phrase>a dog</phrase>"
    assert parse_markup(text, num_cells=0) == Markup(text)
    assert parse_markup("", num_cells=0) == Markup("")


def test_spaces_at_the_ends_mean_nothing() -> None:
    markup = parse_markup(f"  <grounding>  two spaces<phrase>  a dog </phrase>{OBJECT}  ")
    assert markup.text == "two spaces  a dog"
    assert phrases(markup) == [("a dog", 12, 17, 1)]


@pytest.mark.parametrize(
    "text", ["I <3 you", "a < b > c", "<s>", "<image>x</image>", "<p>", "<patch_index_>", "", " "]
)
def test_other_angle_brackets_are_words(text: str) -> None:
    assert parse_markup(text) == Markup(text.strip())


def test_a_stray_bracket_takes_no_words_with_it() -> None:
    markup = parse_markup(f"I <3 you<phrase> a</phrase>{OBJECT}")
    assert markup.text == "I <3 you a"
    assert phrases(markup) == [("a", 9, 10, 1)]


def test_a_location_written_with_very_many_digits_is_words() -> None:
    text = f"<patch_index_{'9' * 5000}>"
    assert parse_markup(text, lenient=True).text == text


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        (f"<phrase> a</phrase> {OBJECT}", 20, "only directly behind </phrase>"),
        (f"see{OBJECT} here", 3, "only directly behind </phrase>"),
        ("<phrase> a</phrase><object><patch_index_0001></object>", 45, "a second location"),
        (f"<phrase>a</phrase><object>{LOCATIONS}<patch_index_0003></object>", 80, "a second loc"),
        ("<phrase> a</phrase><object></object>", 27, "expected two locations"),
        (
            f"<phrase>a</phrase><object>{LOCATIONS}</delimiter_of_multi_objects/></object>",
            92,
            "expected two locations",
        ),
        (f"<phrase>a</phrase><object>{LOCATIONS} x", 62, "or </object>, found ' x'"),
        (f"<phrase>a</phrase><object>{LOCATIONS}", 62, "or </object>, found the end"),
        ("<phrase> a<phrase> b</phrase></phrase>", 10, "expected </phrase>"),
        ("<phrase></phrase>", 8, "expected words between"),
        ("<phrase> </phrase>", 8, "expected words between"),
        ("<phrase>", 8, "expected words behind <phrase>, found the end"),
        ("<phrase>a", 9, "expected </phrase> behind the words"),
        ("a</phrase>", 1, "found '</phrase>'"),
        ("<patch_index_0001>", 0, "found '<patch_index_0001>'"),
        ("a dog<grounding>", 5, "only at the start"),
        ("<grounding><grounding>", 11, "only at the start"),
        (
            "<phrase>a</phrase><object><patch_index_2000><patch_index_0001></object>",
            26,
            "on a grid of 32 x 32",
        ),
        (
            "<phrase>a</phrase><object><patch_index_0001><patch_index_34></object>",
            44,
            "expected <patch_index_0034>",
        ),
    ],
)
def test_strict_parsing_says_what_is_wrong_and_where(
    text: str, position: int, message: str
) -> None:
    with pytest.raises(MarkupError) as caught:
        parse_markup(text)
    assert caught.value.position == position
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "clean", "spans", "dropped"),
    [
        (f"<phrase> a</phrase> {OBJECT}", "a", [("a", 0, 1, 0), ("", 1, 1, 1)], []),
        (f"see{OBJECT} here", "see here", [("", 3, 3, 1)], []),
        (
            "<phrase> a</phrase><object><patch_index_0001></object> x",
            "a x",
            [("a", 0, 1, 0)],
            [(19, "<object><patch_index_0001></object>")],
        ),
        (
            f"<phrase> a</phrase><object>{LOCATIONS} x",
            "a x",
            [("a", 0, 1, 0)],
            [(19, f"<object>{LOCATIONS}")],
        ),
        (
            f"<phrase> a<phrase> b</phrase></phrase>{OBJECT}",
            "a b",
            [("b", 2, 3, 0), ("", 3, 3, 1)],
            [(0, "<phrase>"), (29, "</phrase>")],
        ),
        (f"<phrase> </phrase>{OBJECT}z", "z", [("", 0, 0, 1)], [(0, "<phrase> </phrase>")]),
        (
            "<phrase>a</phrase><object><patch_index_2000><patch_index_0010>"
            "</delimiter_of_multi_objects/><patch_index_0001><patch_index_0034></object>",
            "a",
            [("a", 0, 1, 1)],
            [(26, "<patch_index_2000><patch_index_0010>")],
        ),
        (
            "<phrase>a</phrase><object><patch_index_1><patch_index_34></object>",
            "a",
            [("a", 0, 1, 1)],
            [],
        ),
        ("a</object> b", "a b", [], [(1, "</object>")]),
        ("a <grounding>b", "a b", [], [(2, "<grounding>")]),
        ("a dog <phrase>", "a dog", [], [(6, "<phrase>")]),
    ],
)
def test_lenient_parsing_keeps_the_words_and_reports_the_rest(
    text: str,
    clean: str,
    spans: list[tuple[str, int, int, int]],
    dropped: list[tuple[int, str]],
) -> None:
    markup = parse_markup(text, lenient=True)
    assert markup.text == clean
    assert phrases(markup) == spans
    assert [(item.position, item.text) for item in markup.dropped] == dropped
    assert all(item.reason.startswith("expected ") for item in markup.dropped)


def test_corners_in_the_wrong_order_are_kept_as_they_are() -> None:
    text = "<phrase> rev</phrase><object><patch_index_0863><patch_index_0044></object>"
    assert parse_markup(text).spans[0].boxes == (Box(0.984375, 0.828125, 0.390625, 0.046875),)


@pytest.mark.parametrize(
    "markup",
    [
        Markup("a dog", (Span("dog", 2, 5, (), ()), Span("a", 0, 1, (), ()))),
        Markup("a dog", (Span("dog", 2, 9, (), ()),)),
        Markup("a dog", (Span("cat", 2, 5, (), ()),)),
        Markup("a dog", (Span("", 2, 2, (), ()),)),
        Markup("a <phrase> dog"),
        Markup("a", (Span("a", 0, 1, (), ()), Span("", 1, 1, (BOX,), ((1, 34),)))),
    ],
)
def test_markup_that_would_not_read_back_is_not_printed(markup: Markup) -> None:
    with pytest.raises(MarkupError):
        print_markup(markup)


@given(markups())
def test_printing_and_parsing_give_the_markup_back(markup: Markup) -> None:
    text = print_markup(markup)
    assert parse_markup(text) == markup
    assert print_markup(parse_markup(text)) == text


@given(markups())
def test_lenient_parsing_agrees_with_strict_where_that_succeeds(markup: Markup) -> None:
    text = print_markup(markup)
    assert parse_markup(text, lenient=True) == parse_markup(text)


@given(markup_soup("ab <>.\n", num_locations=1200))
def test_lexemes_are_the_text_in_order(text: str) -> None:
    lexemes = lex(text)
    assert "".join(lexeme.text for lexeme in lexemes) == text
    assert all(text.startswith(lexeme.text, lexeme.position) for lexeme in lexemes)


@given(markup_soup("ab <>.\n", num_locations=1200))
def test_lenient_parsing_takes_anything_and_strict_only_what_drops_nothing(text: str) -> None:
    markup = parse_markup(text, lenient=True)
    assert markup.text == markup.text.strip()
    for span in markup.spans:
        assert markup.text[span.start : span.end] == span.text
    if markup.dropped or any(not span.text for span in markup.spans):
        with pytest.raises(MarkupError) as caught:
            parse_markup(text)
        assert 0 <= caught.value.position <= len(text)
    else:
        assert parse_markup(text) == markup


@given(markup_soup("ab <>.\n", num_locations=1200))
def test_what_was_recovered_prints_and_reads_back_or_is_refused(text: str) -> None:
    markup = dataclasses.replace(parse_markup(text, lenient=True), dropped=())
    try:
        printed = print_markup(markup)
    except MarkupError:
        return
    assert parse_markup(printed, lenient=True) == markup


@given(markup_soup())
def test_lenient_parsing_recovers_what_the_release_and_hf_recover(text: str) -> None:
    markup = parse_markup(text, lenient=True)
    ours = [(span.text, box) for span in markup.spans for box in span.boxes]
    release = [
        ("" if name.startswith("<") else name.strip(), box) for name, box in release_entities(text)
    ]
    assert ours == release
    caption, entities = hf_entities(text)
    assert markup.text == caption
    named = [(s.text, (s.start, s.end)) for s in markup.spans if s.boxes and s.text]
    assert named == [(e.name, e.span) for e in entities if e.name and e.name[0] != "<"]
