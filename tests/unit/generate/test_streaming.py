"""What is told of a reply while it grows adds up to the reply."""

import functools

import numpy as np
import PIL.Image
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos.document.encode import encode
from kosmos.document.layout import INFERENCE
from kosmos.document.types import Document, Image, Text
from kosmos.generate.constraints import StopStrings
from kosmos.generate.grounding import make_reply
from kosmos.generate.reply import Piece, Reply
from kosmos.generate.search import Draft
from kosmos.generate.streaming import ReplyStream
from kosmos.image.config import ImageConfig
from kosmos.image.transform import ImageTransform
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import train_tokenizer

PICTURE = PIL.Image.fromarray(np.zeros((40, 60, 3), dtype=np.uint8))
IMAGE = ImageConfig(size=16)


@functools.cache
def byte_tokenizer() -> Tokenizer:
    """Pieces of one character, bytes for all others."""
    model = train_tokenizer(["a dog on it"], num_pieces=267, byte_fallback=True)
    return Tokenizer.from_bytes(model, num_cells=4)


def unfold(
    tokenizer: Tokenizer, ids: list[int], prompt: str, stop: tuple[str, ...]
) -> tuple[list[Piece], Reply]:
    """The pieces of ids, up to the first stop string, and the reply they should add up to."""
    encoded = encode(
        Document([Image(PICTURE), Text(prompt)]),
        tokenizer,
        layout=INFERENCE,
        image=IMAGE,
        complete=False,
    )

    def read(draft: Draft) -> Reply:
        return make_reply(
            draft, encoded, tokenizer=tokenizer, transform=ImageTransform(IMAGE), stop=stop
        )

    def draft_of(size: int) -> Draft:
        logprobs = [-0.1 * (index % 7) for index in range(size)]
        return Draft(token_ids=ids[:size], token_logprobs=logprobs, finish="length")

    watch = StopStrings(stop, tokenizer.stream()) if stop else None
    unfolding = ReplyStream(read, tokenizer.stream(), stop)
    pieces = []
    size = 0
    while size < len(ids) and not (watch and watch.is_complete):
        watch = watch.after(ids[size]) if watch else None
        size += 1
        pieces.append(unfolding.grow(draft_of(size)))
    return [*pieces, unfolding.finish(draft_of(size))], read(draft_of(size))


def told(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


STOPS = [(), ("a",), ("on it",), (" d", "</phrase>"), ("</object>",), ("it<phrase>", "o")]


@given(data=st.data())
@settings(max_examples=300)
def test_pieces_add_up_to_the_reply(data):
    tokenizer = byte_tokenizer()
    vocabulary = tokenizer.vocabulary
    kinds = [
        st.integers(0, vocabulary.size - 1),
        st.sampled_from(tokenizer.encode("a dog on it \u00e9\u706b")),
        st.integers(vocabulary.mask_id, vocabulary.size - 1),
    ]
    entity = tokenizer.encode_markup(
        "<phrase> dog</phrase><object><patch_index_0000><patch_index_0010></object>"
    )
    runs = st.one_of(*kinds).map(lambda token_id: [token_id]) | st.sampled_from(
        [entity, entity[-4:], tokenizer.encode("dog on it")]
    )
    ids = [token_id for run in data.draw(st.lists(runs, max_size=20)) for token_id in run]
    prompt = data.draw(st.sampled_from(["a", "<phrase>a dog</phrase>", "<phrase> a", "<object>"]))
    pieces, reply = unfold(tokenizer, ids, prompt, data.draw(st.sampled_from(STOPS)))
    assert told(pieces) == reply.text
    assert tuple(span for piece in pieces for span in piece.grounded) == reply.grounded
    assert [piece.reply for piece in pieces] == [None] * (len(pieces) - 1) + [reply]


def test_words_are_told_at_once_and_a_box_when_its_object_closes():
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode_markup(
        "a<phrase> dog</phrase><object><patch_index_0000><patch_index_0010></object> on it"
    )
    pieces, reply = unfold(tokenizer, ids, "a", ())
    assert reply.text == told(pieces) == "a dog on it"
    closing = ids.index(tokenizer.vocabulary.object_end_id)
    assert [index for index, piece in enumerate(pieces) if piece.grounded] == [closing]
    assert told(pieces[: closing + 2]) == "a dog"
    assert pieces[-1] == Piece(reply=reply)


def test_what_may_begin_a_stop_string_waits():
    tokenizer = byte_tokenizer()
    pieces, _ = unfold(tokenizer, tokenizer.encode("a dog on it"), "a", ("on it",))
    assert told(pieces) == "a dog"
    ids = tokenizer.encode("a dog on a")
    pieces, _ = unfold(tokenizer, ids, "a", ("on it",))
    assert told(pieces) == "a dog on a"
    # the last character and its space show that it does not
    assert told(pieces[: len(ids) - 2]) == "a dog"


def test_half_a_character_waits():
    tokenizer = byte_tokenizer()
    pieces, _ = unfold(tokenizer, tokenizer.encode("a \u706b"), "a", ())
    assert [piece.text for piece in pieces] == ["", "a", "", "", "", " \u706b", ""]
