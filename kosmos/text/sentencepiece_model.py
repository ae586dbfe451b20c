"""A SentencePiece model file as what it is: a message of pieces, scores and preparation of text.

- :func:`read_sentencepiece`: what another library's tokenizer needs of it
- :func:`write_sentencepiece`: the other way, from a tokenizer of another library
- :func:`in_dictionary_order`: the same model with its pieces counted as the release counts them

The file is one protocol-buffer message, and the sentencepiece package shows most but not all of it
(not the character map). A reader for the few fields needed is shorter than a second dependency::

    1  piece, repeated: 1 text, 2 score (float), 3 kind
    2  trainer: 3 model type, 22 split by whitespace, 35 byte fallback
    3  normalizer: 2 character map, 3 dummy prefix, 4 remove extra spaces, 5 escape spaces

Source: google/sentencepiece src/sentencepiece_model.proto.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice

from kosmos.errors import DataError

_PIECE = 1
_FIRST = (b"<unk>", b"<s>", b"</s>")
# a control piece whose name no trained piece has: those hold no space
_PAD = b"\n\x0b\n\x07< pad >\x18\x03"


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
        for number, value, _ in _fields(model):
            if number == _PIECE:
                entry = _message(value)
                pieces.append(
                    Piece(
                        text=_as_bytes(entry[1]).decode("utf-8"),
                        score=struct.unpack("<f", _as_bytes(entry.get(2, bytes(4))))[0],
                        kind=PieceKind(int(entry.get(3, 1))),
                    )
                )
            elif number == 2:
                trainer = _message(value)
            elif number == 3:
                normalizer = _message(value)
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


def write_sentencepiece(model: SentencePieceModel) -> bytes:
    """The bytes of a model file; :func:`read_sentencepiece` gives the same back.

    Args:
        model: A unigram model that handles spaces as usual.
    """
    assert model.is_unigram
    assert model.usual_spaces
    pieces = (
        _field(1, piece.text.encode()) + b"\x15" + struct.pack("<f", piece.score)
        + (b"" if piece.kind == PieceKind.NORMAL else bytes([0x18, piece.kind]))
        for piece in model.pieces
    )  # fmt: skip
    trainer = b"\x18\x01" + (b"\x98\x02\x01" if model.byte_fallback else b"")
    normalizer = _field(2, model.charsmap) if model.charsmap else b""
    rest = _field(2, trainer) + _field(3, normalizer)
    return b"".join(_field(_PIECE, piece) for piece in pieces) + rest


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes."""
    size, length = len(content), bytearray()
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def in_dictionary_order(model: bytes, where: str = "tokenizer") -> bytes:
    """The same model with its pieces counted as in the release's dictionary.

    A model counts ``<unk> <s> </s>`` and then its words; the dictionary counts ``<s> <pad> </s>
    <unk>``, and so each word one higher. Of the model returned, the indices are the ids.

    Args:
        model: Bytes of a ``.model`` file.
        where: Name for error messages.

    Raises:
        DataError: If the bytes are not a SentencePiece model, or it begins with other pieces.
    """
    texts: list[bytes] = []
    fields: list[bytes] = []
    rest = 0
    try:
        for number, value, position in islice(_fields(model), len(_FIRST)):
            texts.append(_as_bytes(_message(value)[1]) if number == _PIECE else b"")
            fields.append(model[rest:position])
            rest = position
    except (KeyError, IndexError, ValueError) as error:
        raise no_model(model, where) from error
    if tuple(texts) != _FIRST:
        if not all(texts) or len(texts) < len(_FIRST):
            raise no_model(model, where)
        raise DataError(
            f"{where}: expected the pieces {_said(_FIRST)} first, found {_said(texts)}",
            hint="train one with kosmos tokenizer train",
        )
    unknown, start, end = fields
    return b"".join([start, _PAD, end, unknown, model[rest:]])


def no_model(model: bytes, where: str) -> DataError:
    """The error that bytes are not a SentencePiece model, to be raised."""
    return DataError(
        f"{where}: expected a SentencePiece model, found {len(model)} bytes that are none",
        hint="the file may be cut short or be a pointer to a large file",
    )


def _said(texts: Sequence[bytes]) -> str:
    return b" ".join(texts).decode("utf-8", errors="replace")


def _message(value: int | bytes) -> dict[int, int | bytes]:
    return {number: inner for number, inner, _ in _fields(_as_bytes(value))}


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes, int]]:
    """Fields of a message: number, value (whole, or bytes for all else), and where it ends."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value, position
            continue
        if wire == 2:
            length, position = _varint(message, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + length > len(message):
            raise ValueError("a field beyond the end")
        position += length
        yield number, message[position - length : position], position


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
