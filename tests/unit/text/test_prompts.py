"""Prompts are the papers', and read as markup."""

import pytest

from kosmos.text import prompts
from kosmos.text.markup import parse_markup
from kosmos.text.tokenizer import Tokenizer


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (prompts.CAPTION, "An image of"),
        (prompts.GROUNDED_CAPTION, "<grounding>An image of"),
        (prompts.GROUNDED_DETAIL, "<grounding>Describe this image in detail:"),
        (prompts.question("What is it?"), "Question: What is it? Answer:"),
        (prompts.size_comparison("a sofa", "a cat"), "Is a sofa larger than a cat?"),
        (prompts.color_of("the sky"), "The color of the sky is?"),
        (prompts.raven(3), "Here are three images:"),
        (prompts.raven(8), "Here are eight images:"),
        (
            prompts.category("woodpecker"),
            "Question:what is the name of woodpecker in the picture? Answer:",
        ),
        (prompts.phrase("a dog"), "<grounding><phrase>a dog</phrase>"),
        (
            prompts.phrase_in_caption("A man in a vest", 9, 15),
            "<grounding>A man in  <phrase>a vest</phrase>",
        ),
        (
            prompts.expression([(44, 863)]),
            "<grounding><phrase> It </phrase><object><patch_index_0044><patch_index_0863>"
            "</object> is",
        ),
        (
            prompts.box([(1, 2), (3, 4)]),
            "<object><patch_index_0001><patch_index_0002></delimiter_of_multi_objects/>"
            "<patch_index_0003><patch_index_0004></object>",
        ),
    ],
)
def test_prompts_read_as_the_papers_write_them(prompt: str, text: str) -> None:
    assert prompt == text


def test_the_page_prompt_keeps_the_papers_spelling() -> None:
    prompt = prompts.web_question("Who wrote it?", "Title by Me")
    assert "like this: Qusestion: Who is the publisher" in prompt
    assert prompt.endswith("Context: Title by Me Q: Who wrote it? A:")


def test_the_six_templates_ask_about_a_box_and_answer() -> None:
    sentences = []
    for template in prompts.EXPRESSION_TEMPLATES:
        markup = parse_markup(template.prompt([(44, 863)]) + template.answer("a red dog"))
        assert markup.grounding
        assert [span.locations for span in markup.spans] == [((44, 863),)]
        sentences.append(" ".join(markup.text.replace(" ?", "?").replace(" .", ".").split()))
    assert sentences == [
        "What is it? It is a red dog.",
        "What is this? This is a red dog.",
        "Describe this object. This object is a red dog.",
        "It is a red dog.",
        "This is a red dog.",
        "The object is a red dog.",
    ]


def test_an_expression_with_braces_is_no_format() -> None:
    assert prompts.EXPRESSION_TEMPLATES[3].answer("a {red} dog") == " a {red} dog."


def test_the_reference_prompt_has_the_published_ids(shared_data: object) -> None:
    path = shared_data / "kosmos2" / "sentencepiece.bpe.model"  # type: ignore[operator]
    tokenizer = Tokenizer.load(path)
    assert tokenizer.encode_markup(prompts.expression([(44, 863)])) == [
        64012, 64007, 67, 64008, 64009, 64057, 64876, 64010, 17,
    ]  # fmt: skip
    caption = "A man in a blue hard hat and orange safety vest"
    start = caption.index("orange")
    assert tokenizer.encode_markup(prompts.phrase_in_caption(caption, start, len(caption))) == [
        64012, 95, 242, 12, 10, 1486, 354, 3958, 8, 64007, 5195, 1123, 13473, 64008,
    ]  # fmt: skip
