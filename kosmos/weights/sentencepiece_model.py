"""Reads a SentencePiece model file: its pieces, their scores, and how it prepares text.

The file is one protocol-buffer message, and the sentencepiece package shows most but not all of it
(not the character map). A reader for the few fields needed is shorter than a second dependency::

    1  piece, repeated: 1 text, 2 score (float), 3 kind
    2  trainer: 3 model type, 22 split by whitespace, 35 byte fallback
    3  normalizer: 2 character map, 3 dummy prefix, 4 remove extra spaces, 5 escape spaces

Source: google/sentencepiece src/sentencepiece_model.proto.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from kosmos.errors import DataError


class PieceKind(IntEnum):
    """What a piece is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the model's vocabulary."""

    text: str
    score: float
    kind: PieceKind


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """The parts of a model file that a tokenizer of another library needs."""

    pieces: tuple[Piece, ...]
    is_unigram: bool
    byte_fallback: bool
    charsmap: bytes
    """Precompiled normalization; empty where text is taken as it is."""
    usual_spaces: bool
    """A space is put before the text, runs of spaces become one, and no piece spans words."""


def read_sentencepiece(model: bytes) -> SentencePieceModel:
    """Read a model file's bytes.

    Raises:
        DataError: If they are not a SentencePiece model.
    """
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    try:
        for number, value in _fields(model):
            if number == 1:
                entry = dict(_fields(_as_bytes(value)))
                pieces.append(
                    Piece(
                        text=_as_bytes(entry[1]).decode("utf-8"),
                        score=struct.unpack("<f", _as_bytes(entry.get(2, bytes(4))))[0],
                        kind=PieceKind(int(entry.get(3, 1))),
                    )
                )
            elif number == 2:
                trainer = dict(_fields(_as_bytes(value)))
            elif number == 3:
                normalizer = dict(_fields(_as_bytes(value)))
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise DataError(f"tokenizer: expected a SentencePiece model, found {error!r}") from error
    return SentencePieceModel(
        pieces=tuple(pieces),
        is_unigram=trainer.get(3, 1) == 1,
        byte_fallback=trainer.get(35, 0) == 1,
        charsmap=_as_bytes(normalizer.get(2, b"")),
        usual_spaces=all(
            spec.get(number, 1) == 1
            for spec, number in ((trainer, 22), (normalizer, 3), (normalizer, 4), (normalizer, 5))
        ),
    )


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a message: whole numbers, or bytes for everything else."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(message, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + length > len(message):
            raise ValueError("a field beyond the end")
        yield number, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
