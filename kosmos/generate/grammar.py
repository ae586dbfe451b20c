"""The grammar of grounding markup as a constraint: every reply parses, and nothing is dropped.

A reply is words and entities, and an entity is a phrase with at least one box::

    reply   = { WORDS | entity } [ </s> ]
    entity  = <phrase> WORDS </phrase> <object> pair { delimiter pair } </object>
    pair    = <patch_index_KKKK> <patch_index_KKKK>     top left, bottom right

which is what these states allow, with the fewest tokens that lead from each back to ``words``::

    state     what may come                               leads to             to close
    words     any word, </s>                              words                0
              <phrase>                                    blank
    blank     a word without a letter or sign             blank                6
              any other word                              phrase
    phrase    any word                                    phrase               5
              </phrase>                                   named
    named     <object>                                    object               4
    object    any location                                corner               3
    corner    a location not left of nor above it         pair                 2
    pair      </object>                                   words                1
              the delimiter, up to ``max_boxes``          object

A token is allowed if what it leads to can still be closed in the tokens that remain, so a reply
that is cut at its limit parses as well. The reply begins in the state its prompt ends in.

Never in a reply: control tokens but these, and pieces with ``<``, which could spell one.

Source: KOSMOS-2 (arXiv:2306.14824) section 2. Departure: there a phrase may stand without an
object; in a prompt it is a question, but in a reply it is an answer left out.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int64

from kosmos.errors import ConfigError
from kosmos.text.tokenizer import Tokenizer

_Kind: TypeAlias = Literal["words", "blank", "phrase", "named", "object", "corner", "pair"]

_TO_CLOSE: dict[_Kind, int] = {
    "words": 0,
    "blank": 6,
    "phrase": 5,
    "named": 4,
    "object": 3,
    "corner": 2,
    "pair": 1,
}
_LONG_WAY: dict[_Kind, _Kind] = {
    "words": "blank",
    "blank": "blank",
    "phrase": "phrase",
    "pair": "object",
}
"""Where there is a choice of states: the one that takes longer to close."""


class _State(NamedTuple):
    kind: _Kind
    num_pairs: int = 0
    """Whole pairs of the object at hand."""
    corner: int = -1
    """Location index of the first corner, in ``corner``."""


class GroundedGrammar:
    """A constraint to well-formed grounding markup.

    ``generator.generate(doc, constraint=GroundedGrammar(generator.tokenizer))``

    Behind ``<phrase> a dog</phrase>`` a reply begins with an object: asked where something is, a
    model under this constraint answers with a box, there or not. A stop string may still cut a
    reply inside an entity.

    Args:
        tokenizer: That of the model.
        max_boxes: Most boxes of an entity, those of the prompt included; None for any number.

    Raises:
        ConfigError: If the vocabulary has no grounding tokens, or ``max_boxes`` is below 1.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_boxes: int | None = None) -> None:
        if max_boxes is not None and max_boxes < 1:
            raise ConfigError(f"max_boxes: expected at least 1, found {max_boxes}")
        vocabulary = self._vocabulary = tokenizer.vocabulary
        self._max_boxes = max_boxes
        num_cells, first = vocabulary.num_cells, vocabulary.first_location_id
        self._locations = np.arange(first, first + num_cells**2).reshape(num_cells, num_cells)
        self._tags = frozenset(
            (
                vocabulary.phrase_id,
                vocabulary.phrase_end_id,
                vocabulary.object_id,
                vocabulary.object_end_id,
                vocabulary.grounding_id,
                vocabulary.image_end_id,
            )
        )
        pieces = tokenizer.surfaces.pieces
        words = [i for i, piece in enumerate(pieces) if i >= vocabulary.unk_id and _is_safe(piece)]
        self._blank = frozenset(i for i, piece in enumerate(pieces) if not _is_visible(piece))
        self._short = {
            "words": _sorted(*words, vocabulary.eos_id),
            "blank": _sorted(*(i for i in words if i not in self._blank)),
            "phrase": _sorted(vocabulary.phrase_end_id),
            "named": _sorted(vocabulary.object_id),
            "object": self._locations.ravel(),
            "pair": _sorted(vocabulary.object_end_id),
        }
        self._long = {
            "words": _sorted(*words, vocabulary.eos_id, vocabulary.phrase_id),
            "blank": _sorted(*words),
            "phrase": _sorted(*words, vocabulary.phrase_end_id),
            "pair": _sorted(vocabulary.object_end_id, vocabulary.delimiter_id),
        }

    def allowed(
        self, prompt: Sequence[int], reply: Sequence[int], remaining: int
    ) -> Int64[np.ndarray, " ids"]:
        """As :class:`~kosmos.generate.constraints.Constraint` says.

        Raises:
            ConfigError: If the prompt leaves an entity open that cannot be closed in the
                remaining tokens.
        """
        kind, num_pairs, corner = self._state(prompt, reply)
        if remaining < _TO_CLOSE[kind]:
            raise ConfigError(
                f"grammar: expected room for {_TO_CLOSE[kind]} tokens, which close the entity that "
                f"the prompt leaves open, found {remaining}",
                hint="raise max_new_tokens or shorten the prompt",
            )
        if kind == "corner":
            row, column = divmod(corner, len(self._locations))
            return self._locations[row:, column:].ravel()
        is_full = kind == "pair" and self._max_boxes is not None and num_pairs >= self._max_boxes
        if kind in _LONG_WAY and not is_full and remaining > _TO_CLOSE[_LONG_WAY[kind]]:
            return self._long[kind]
        return self._short[kind]

    def _state(self, prompt: Sequence[int], reply: Sequence[int]) -> _State:
        """Where prompt and reply end; a prompt that does not parse leaves nothing open."""
        ids = chain(reversed(reply), reversed(prompt))
        run, tag = self._run(ids)
        if tag == self._vocabulary.phrase_id:
            return self._in_phrase(run)
        if tag == self._vocabulary.object_id:
            return self._in_object(run)
        if tag == self._vocabulary.phrase_end_id and not run:
            run, tag = self._run(ids)
            if tag == self._vocabulary.phrase_id and self._in_phrase(run).kind == "phrase":
                return _State("named")
        return _State("words")

    def _run(self, ids: Iterator[int]) -> tuple[list[int], int]:
        """The ids up to the next tag, and that; -1 where there is none."""
        run: list[int] = []
        for token_id in ids:
            if token_id in self._tags:
                return run, token_id
            run.append(token_id)
        return run, -1

    def _in_phrase(self, run: Sequence[int]) -> _State:
        if any(token_id > self._vocabulary.line_end_id for token_id in run):
            return _State("words")  # a location or a delimiter: the phrase is none
        last = self._vocabulary.mask_id
        said = any(token_id < last and token_id not in self._blank for token_id in run)
        return _State("phrase" if said else "blank")

    def _in_object(self, run: Sequence[int]) -> _State:
        state = _State("object")
        for token_id in reversed(run):
            location = self._vocabulary.location_index(token_id)
            if state.kind == "object" and location is not None:
                state = _State("corner", state.num_pairs, location)
            elif state.kind == "corner" and location is not None:
                state = _State("pair", state.num_pairs + 1)
            elif state.kind == "pair" and token_id == self._vocabulary.delimiter_id:
                state = _State("object", state.num_pairs)
            else:
                return _State("words")
        return state


def _is_safe(piece: str | bytes) -> bool:
    """Whether no tag can be spelled with a piece."""
    return piece != b"<" if isinstance(piece, bytes) else "<" not in piece


def _is_visible(piece: str | bytes) -> bool:
    """Whether a piece says something, whatever stands beside it."""
    if isinstance(piece, bytes):
        # a byte of a longer character may end up as part of a space
        return piece.isascii() and not piece.isspace()
    return bool(piece.strip())


def _sorted(*token_ids: int) -> Int64[np.ndarray, " ids"]:
    return np.array(sorted(token_ids), dtype=np.int64)
