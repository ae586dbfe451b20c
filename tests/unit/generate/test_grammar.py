"""Replies that are well-formed grounding markup, whatever the weights, the prompt and the limit."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.document.types import Document, Image, Text
from kosmos.errors import ConfigError
from kosmos.generate.config import RELEASED
from kosmos.generate.generator import Generator
from kosmos.generate.grammar import GroundedGrammar
from kosmos.generate.grounding import open_tail
from kosmos.generate.reply import Reply
from kosmos.text.markup import parse_markup
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import train_tokenizer
from kosmos.text.vocabulary import location_token
from tests.unit.generate.random_models import make_generator, make_model, small_tokenizer

TOKENIZER = small_tokenizer()
VOCABULARY = TOKENIZER.vocabulary
CELLS = VOCABULARY.num_cells
GRAMMAR = GroundedGrammar(TOKENIZER)
PICTURE = np.zeros((20, 30, 3), dtype=np.uint8)

LEFT_OPEN = {
    "": 0,
    "<grounding>An image of": 0,
    "<grounding><phrase>": 6,
    "<grounding>left of<phrase>a red": 5,
    "<grounding><phrase>a red circle</phrase>": 4,
    "<phrase>it</phrase><object>": 3,
    "<phrase>it</phrase><object><patch_index_0005>": 2,
    "<phrase>it</phrase><object><patch_index_0015>": 2,
    "<phrase>it</phrase><object><patch_index_0005><patch_index_0010>": 1,
    "<phrase>it</phrase><object><patch_index_0005><patch_index_0010>"
    "</delimiter_of_multi_objects/>": 3,
    "<phrase>it</phrase><object><patch_index_0005><patch_index_0010></object>": 0,
    "<phrase>it</phrase><object><patch_index_0005><patch_index_0010></object> is": 0,
}
"""Prompts, and the tokens that close what they leave open."""
BROKEN = {
    "<object>": 3,
    "it<object><patch_index_0005>": 2,
    "<phrase>a<phrase> dog": 5,
    "<phrase></phrase>": 0,
    "a dog</phrase>": 0,
    "<phrase>a<patch_index_0003></phrase>": 0,
    "<patch_index_0003>": 0,
    "<phrase>it</phrase><object></object>": 0,
    "<phrase>it</phrase><object><patch_index_0005></object>": 0,
}
"""The same for prompts that parse nowhere."""
SEARCHES = (
    {},
    {"num_beams": 3},
    {"temperature": 1.0},
    {"temperature": 2.0, "top_k": 5},
    {"no_repeat_ngram_size": 2},
    {"num_beams": 2, "no_repeat_ngram_size": 3, "early_stopping": True},
    {"temperature": 1.0, "no_repeat_ngram_size": 1, "min_new_tokens": 9},
)
MODELS = {
    seed: make_generator(TOKENIZER, make_model(VOCABULARY.size, seed=seed, end_bias=bias))
    for seed, bias in ((0, 1.0), (1, 3.0), (2, 0.0), (3, 1.0), (4, 2.0))
}


def ask(generator: Generator, prompt: str, grammar: GroundedGrammar | None, **options) -> Reply:
    doc = Document([Image(PICTURE), Text(prompt)] if prompt else [Image(PICTURE)], id=prompt)
    return generator.generate(doc, constraint=grammar, **options)


def check(generator: Generator, prompt: str, reply: Reply, *, max_boxes: int = 99) -> None:
    """The reply completes its prompt, and nothing of it is lost."""
    assert reply.dropped == ()
    ids = generator.encode(Document([Image(PICTURE), Text(prompt)])).token_ids.tolist()
    tail = open_tail(ids, VOCABULARY)
    whole = TOKENIZER.decode([*tail, *reply.token_ids])
    if prompt in LEFT_OPEN:
        markup = parse_markup(whole, num_cells=CELLS)  # strict: raises at what does not parse
        before = parse_markup(TOKENIZER.decode(tail), num_cells=CELLS, lenient=True).spans
        assert all(span.boxes and len(span.boxes) <= max_boxes for span in markup.spans)
        for pair in (pair for span in markup.spans for pair in span.locations):
            (top, left), (bottom, right) = (divmod(index, CELLS) for index in pair)
            assert top <= bottom
            assert left <= right
        # an entity of the prompt that had its boxes is not the reply's
        assert len(reply.grounded) == len(markup.spans) - sum(bool(span.boxes) for span in before)
    assert reply.finish == ("stop" if reply.token_ids[-1] == VOCABULARY.eos_id else "length")


@given(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from([*LEFT_OPEN, *BROKEN]),
    st.integers(1, 24),
    st.sampled_from(SEARCHES),
    st.sampled_from([None, 1, 2]),
)
@settings(max_examples=150)
def test_every_reply_parses_and_drops_nothing(seed, prompt, limit, search, max_boxes):
    generator = MODELS[seed]
    grammar = GroundedGrammar(TOKENIZER, max_boxes=max_boxes)
    search = {**search, "min_new_tokens": min(search.get("min_new_tokens", 0), limit)}
    to_close = {**LEFT_OPEN, **BROKEN}[prompt]
    if limit < to_close:
        with pytest.raises(ConfigError, match=f"expected room for {to_close} tokens, .* {limit}$"):
            try:
                ask(generator, prompt, grammar, max_new_tokens=limit, **search)
            except ConfigError as error:
                raise ConfigError(error.message) from error
        return
    reply = ask(generator, prompt, grammar, max_new_tokens=limit, **search)
    assert len(reply.token_ids) <= limit
    # the object that a prompt began with as many boxes gets one more, which it asks for
    check(generator, prompt, reply, max_boxes=2 if max_boxes == 1 else 99)


def test_without_the_grammar_the_same_models_say_what_does_not_parse():
    """Else the test above could not fail."""
    replies = [
        ask(generator, prompt, None, max_new_tokens=16, temperature=1.0)
        for generator in MODELS.values()
        for prompt in LEFT_OPEN
    ]
    assert sum(bool(reply.dropped) for reply in replies) > len(replies) / 4


def test_replies_have_entities_with_one_and_with_several_boxes_and_words_between():
    """Else the grammar might say no to everything."""
    replies = [
        ask(generator, prompt, GRAMMAR, max_new_tokens=40, temperature=1.2)
        for generator in MODELS.values()
        for prompt in LEFT_OPEN
    ]
    spans = [span for reply in replies for span in reply.grounded]
    assert {1, 2} <= {len(span.boxes) for span in spans}
    assert {0, 1, 2} <= {len(reply.grounded) for reply in replies}
    assert any(reply.text and not reply.grounded for reply in replies)
    assert {reply.finish for reply in replies} == {"stop", "length"}


words = st.lists(st.sampled_from(["a", "dog", "red", "left of", "it"]), min_size=1, max_size=3)


@st.composite
def markups(draw: st.DrawFn) -> str:
    """What the grammar is a grammar of."""
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        parts += draw(st.lists(st.sampled_from([" a dog", ".", " is left of"]), max_size=2))
        pairs = []
        for _ in range(draw(st.integers(1, 3))):
            top, bottom = sorted(draw(st.tuples(*[st.integers(0, CELLS - 1)] * 2)))
            left, right = sorted(draw(st.tuples(*[st.integers(0, CELLS - 1)] * 2)))
            pair = (top * CELLS + left, bottom * CELLS + right)
            pairs.append("".join(map(location_token, pair)))
        boxes = "</delimiter_of_multi_objects/>".join(pairs)
        parts.append(f"<phrase>{' '.join(draw(words))}</phrase><object>{boxes}</object>")
    parts += draw(st.lists(st.sampled_from([" a dog", "."]), max_size=2))
    return "".join(parts)


@given(markups(), st.integers(0, 40))
def test_whatever_is_well_formed_may_be_said_up_to_its_last_token(markup, cut):
    ids = [*TOKENIZER.encode_markup(markup), VOCABULARY.eos_id]
    cut = min(cut, len(ids) - 1)
    prompt, reply = [0, *ids[:cut]], ids[cut:]
    for size, token_id in enumerate(reply):
        assert token_id in GRAMMAR.allowed(prompt, reply[:size], len(reply) - size)


def test_control_tokens_other_than_the_grammars_are_never_allowed():
    never = {VOCABULARY.bos_id, VOCABULARY.pad_id, VOCABULARY.grounding_id}
    never |= set(range(VOCABULARY.mask_id, VOCABULARY.line_end_id + 1))
    for prompt, remaining in itertools.product([*LEFT_OPEN, *BROKEN], range(6, 12)):
        ids = [0, *TOKENIZER.encode_markup(prompt)]
        assert never.isdisjoint(GRAMMAR.allowed(ids, [], remaining).tolist())


def test_a_reply_begins_in_the_state_of_its_prompt():
    v = VOCABULARY

    def may(prompt: str, remaining: int = 30) -> set[int]:
        return set(GRAMMAR.allowed([0, *TOKENIZER.encode_markup(prompt)], [], remaining).tolist())

    every = set(range(v.first_location_id, v.size))
    assert may("<phrase>a dog</phrase>") == {v.object_id}
    assert may("<phrase>a dog</phrase> is") >= {v.eos_id, v.phrase_id, *TOKENIZER.encode("a dog")}
    assert may("<object>") == every
    assert may("<object><patch_index_0010>") == {v.location_id(i) for i in (10, 11, 14, 15)}
    assert may("<object><patch_index_0010><patch_index_0015>") == {v.object_end_id, v.delimiter_id}
    assert v.phrase_end_id in may("<phrase>a dog")
    assert v.phrase_end_id not in may("<phrase>")
    assert v.phrase_id not in may("a dog", remaining=6)
    assert v.phrase_id in may("a dog", remaining=7)
    # nothing can mend these
    for broken in ("<object><patch_index_0005> dog", "<object>" + 3 * "<patch_index_0005>"):
        assert may(broken) == may("")
    # an entity before the last picture is over
    picture = [v.image_id, 4, 5, 6, v.image_end_id]
    opened = [0, *TOKENIZER.encode_markup("<phrase>a dog"), *picture]
    assert v.phrase_end_id not in GRAMMAR.allowed(opened, [], 30)


def test_no_more_boxes_than_asked_for():
    two = GroundedGrammar(TOKENIZER, max_boxes=2)
    pair = TOKENIZER.encode_markup("<patch_index_0000><patch_index_0010>")
    entity = TOKENIZER.encode_markup("<phrase>a dog</phrase><object>")
    once, twice = [*entity, *pair], [*entity, *pair, VOCABULARY.delimiter_id, *pair]
    assert VOCABULARY.delimiter_id in two.allowed([0], once, 30)
    assert two.allowed([0], twice, 30).tolist() == [VOCABULARY.object_end_id]


def byte_tokenizer() -> Tokenizer:
    """Pieces for bytes, a lone space and signs of markup among them."""
    texts = [f"a < b {number} > c" for number in range(50)]
    return Tokenizer.from_bytes(
        train_tokenizer(texts, num_pieces=280, byte_fallback=True), num_cells=2
    )


def test_a_phrase_needs_a_piece_that_is_sure_to_be_seen():
    tokenizer = byte_tokenizer()
    pieces = tokenizer.surfaces.pieces
    space = pieces.index(" ")
    grammar = GroundedGrammar(tokenizer)
    v = tokenizer.vocabulary
    assert v.phrase_end_id not in grammar.allowed([0], [v.phrase_id, space], 30)
    # the two bytes of a space that does not break
    blank = [pieces.index(bytes([byte])) for byte in "\u00a0".encode()]
    assert v.phrase_end_id not in grammar.allowed([0], [v.phrase_id, *blank], 30)
    letter = tokenizer.encode("a")[-1:]
    assert v.phrase_end_id in grammar.allowed([0], [v.phrase_id, space, *letter], 30)
    last = set(grammar.allowed([0], [v.phrase_id, space], 6).tolist())
    assert last.isdisjoint([space, *blank])
    assert last.issuperset(letter)


def test_no_tag_can_be_spelled_with_words():
    tokenizer = byte_tokenizer()
    allowed = set(GroundedGrammar(tokenizer).allowed([0], [], 30).tolist())
    pieces = tokenizer.surfaces.pieces
    signs = [index for index, piece in enumerate(pieces) if piece in ("<", " <", b"<")]
    assert len(signs) >= 2
    assert allowed.isdisjoint(signs)
    assert allowed.issuperset(tokenizer.encode("a > b")[1:])


def test_an_end_that_does_not_stop_is_not_part_of_the_reply():
    # the release goes on behind a </s> that comes first
    generator = make_generator(TOKENIZER, make_model(VOCABULARY.size, seed=1, end_bias=9.0))
    for options in ({}, {"num_beams": 2}):
        reply = ask(
            generator, "<grounding>An image of", GRAMMAR,
            decoding=RELEASED, max_new_tokens=12, max_total_tokens=None, **options,
        )  # fmt: skip
        assert reply.token_ids[0] == VOCABULARY.eos_id
        assert len(reply.token_ids) > 1
        check(generator, "<grounding>An image of", reply)


def test_a_grammar_without_grounding_tokens_or_boxes_is_refused():
    plain = Tokenizer.from_bytes(TOKENIZER.model_bytes, num_cells=0)
    with pytest.raises(ConfigError, match="expected grounding tokens"):
        GroundedGrammar(plain)
    with pytest.raises(ConfigError, match="max_boxes: expected at least 1, found 0"):
        GroundedGrammar(TOKENIZER, max_boxes=0)
