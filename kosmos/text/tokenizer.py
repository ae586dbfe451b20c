"""Tokenizer: words to ids and back, around one SentencePiece model.

- :class:`Tokenizer`: load, encode words or markup, decode
- :class:`StreamDecoder`: decode ids as they come, in whole characters and whole tokens

What typed text means is decided here: in :meth:`Tokenizer.encode` nothing is a control token, in
:meth:`Tokenizer.encode_markup` the grounding tokens are, and every stretch of words between two
of them is encoded by itself, so each begins with a word boundary.

Source: the released tokenizer, dictionary and loaders; ids as in vocabulary.py.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import sentencepiece

from kosmos.errors import DataError, MarkupError
from kosmos.files import atomic_file
from kosmos.text.markup import TOKEN, Lexeme, lex
from kosmos.text.sentencepiece_model import in_dictionary_order, no_model
from kosmos.text.streaming import StreamDecoder
from kosmos.text.surfaces import Surfaces, say
from kosmos.text.vocabulary import NUM_MODEL_CONTROLS, Vocabulary, location_token

TypedControl: TypeAlias = Literal["text", "control"]

# a call for a list costs 30 us, as 20 calls for a text do; handing it over to threads takes up to
# 4 ms, as long as 1,000 captions (measured)
_TOGETHER_FROM = 20
_PARALLEL_FROM = 1000
# what SentencePiece prints for an unknown word; the release prints <unk>, which in a text that
# carries markup would look like a token
_UNKNOWN = " \u2047 "
_NAMED_CONTROLS = (
    *("<s>", "<pad>", "</s>", "<unk>"),
    *("<mask>", "</doc>", "<image>", "</image>", "</chunk>", "</line>"),
)
_NAMED = "|".join(_NAMED_CONTROLS)
# what typed text is cut at, by what its control tokens are and whether there are grounding tokens
_PATTERNS: dict[tuple[TypedControl, bool], re.Pattern[str] | None] = {
    ("text", False): None,
    ("text", True): TOKEN,
    ("control", False): re.compile(f"({_NAMED})"),
    ("control", True): re.compile(f"({_NAMED}|{TOKEN.pattern[1:-1]})"),
}


class Tokenizer:
    """A SentencePiece model with the ids of the release.

    Args:
        model: Bytes of a ``.model`` file.
        num_cells: Cells along each side of the location grid; 0 for KOSMOS-1's vocabulary, in
            which the grounding tokens do not exist and are words like any other.
        num_pieces: Pieces that the model must have; None takes it as it is.
        where: Name for error messages.

    Raises:
        DataError: If the bytes are no SentencePiece model, its control pieces are others, or the
            number of pieces is not the one given.
    """

    def __init__(
        self,
        model: bytes,
        *,
        num_cells: int = 32,
        num_pieces: int | None = None,
        where: str = "tokenizer",
    ) -> None:
        self.model_bytes = model
        self._processor = _processor(model, where)  # counts in our ids
        found = self._processor.vocab_size() - 1  # <pad> is not the model's
        if num_pieces is not None and found != num_pieces:
            raise DataError(
                f"{where}: expected {num_pieces} pieces, found {found}",
                hint="this is not the tokenizer that the model was trained with",
            )
        self.vocabulary = Vocabulary(found, num_cells)

    @classmethod
    def load(
        cls, path: Path | str, *, num_cells: int = 32, num_pieces: int | None = None
    ) -> "Tokenizer":
        """Read a ``.model`` file; arguments and errors as of the class.

        Raises:
            DataError: Also if there is no such file.
        """
        try:
            model = Path(path).read_bytes()
        except OSError as error:
            raise DataError(
                f"{path}: expected a SentencePiece model, found none: {error.strerror}"
            ) from error
        return cls(model, num_cells=num_cells, num_pieces=num_pieces, where=str(path))

    @classmethod
    def from_bytes(
        cls, model: bytes, *, num_cells: int = 32, num_pieces: int | None = None
    ) -> "Tokenizer":
        """Build from the bytes of a ``.model`` file; arguments and errors as of the class."""
        return cls(model, num_cells=num_cells, num_pieces=num_pieces)

    def with_grid(self, num_cells: int) -> "Tokenizer":
        """The same words with another grid; the model is not read again."""
        other = object.__new__(type(self))
        other.model_bytes, other._processor = self.model_bytes, self._processor
        other.vocabulary = Vocabulary(self.vocabulary.num_pieces, num_cells)
        return other

    def save(self, path: Path | str) -> None:
        """Write the ``.model`` file, atomically."""
        with atomic_file(Path(path)) as file:
            file.write(self.model_bytes)

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the model file."""
        return hashlib.sha256(self.model_bytes).hexdigest()

    def __reduce__(self) -> tuple[object, ...]:
        # worker processes get the model's bytes
        return _restore, (type(self), self.model_bytes, self.vocabulary.num_cells)

    # tables over the ids are made when first asked for: loading for training or scoring needs none

    @cached_property
    def surfaces(self) -> Surfaces:
        """What each id adds to a text."""
        ids = list(range(self.vocabulary.unk_id + 1, self.vocabulary.mask_id))
        pieces: list[str] = self._processor.id_to_piece(ids)
        is_byte: list[bool] = self._processor.is_byte(ids)
        surfaces = [
            bytes([int(piece[1:-1], 16)]) if byte else piece.replace("\u2581", " ")
            for piece, byte in zip(pieces, is_byte, strict=True)
        ]
        return Surfaces(["", "", "", _UNKNOWN, *surfaces], self.vocabulary)

    @cached_property
    def grounding_ids(self) -> Mapping[str, int]:
        """Ids of the grounding tokens, as they are written."""
        ids = range(self.vocabulary.line_end_id + 1, self.vocabulary.size)
        return {self.token(token_id): token_id for token_id in ids}

    @cached_property
    def _control_ids(self) -> Mapping[str, int]:
        """Ids of all tokens that may be typed."""
        named = {name: self.vocabulary.control_id(name) for name in _NAMED_CONTROLS}
        ids = {name: token_id for name, token_id in named.items() if token_id is not None}
        return {**ids, **self.grounding_ids}

    @cached_property
    def _lexemes(self) -> dict[int, Lexeme]:
        return {token_id: lex(token)[0] for token, token_id in self.grounding_ids.items()}

    # --- words to ids

    def encode(self, text: str) -> list[int]:
        """Ids of plain words; ``<s>`` and its like in the text are words too."""
        ids: list[int] = self._processor.encode(text)
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """:meth:`encode` of each text; many are encoded in parallel where there are cores."""
        if len(texts) < _TOGETHER_FROM:
            return [self.encode(text) for text in texts]
        num_threads = -1 if len(texts) >= _PARALLEL_FROM else 1
        rows: list[list[int]] = self._processor.encode(list(texts), num_threads=num_threads)
        return rows

    def encode_markup(self, text: str, *, typed_control: TypedControl = "text") -> list[int]:
        """Ids of words with grounding tokens among them.

        Args:
            text: Words and ``<grounding>``, ``<phrase>``, ``<object>`` and so on, in any order;
                the grammar is not checked here.
            typed_control: ``"text"``: ``<s>``, ``<image>`` and the other control tokens are words;
                ``"control"``: they are control tokens, as in the Hugging Face port.

        Raises:
            MarkupError: If a location token is not in the vocabulary, with its position.
        """
        if "<" not in text:
            return self.encode(text)
        turns = self._cut(typed_control)(text)
        return self._woven(turns, map(self.encode, filter(None, turns[::2])))

    def encode_markup_batch(
        self, texts: Sequence[str], *, typed_control: TypedControl = "text"
    ) -> list[list[int]]:
        """:meth:`encode_markup` of each text; the words of all of them are encoded together.

        Raises:
            MarkupError: If a location token is not in the vocabulary, with its text and position.
        """
        cut = self._cut(typed_control)
        cuts = [cut(text) if "<" in text else [text] for text in texts]
        stretches = [stretch for turns in cuts for stretch in turns[::2] if stretch]
        encoded = iter(self.encode_batch(stretches))
        rows: list[list[int]] = []
        try:
            for turns in cuts:
                rows.append(self._woven(turns, encoded))
        except MarkupError as error:
            reason = error.message.removeprefix(f"character {error.position}: ")
            raise MarkupError(
                f"text {len(rows)}: {reason}", position=error.position, hint=error.hint
            ) from error
        return rows

    def span_tokens(self, text: str, start: int, end: int) -> tuple[int, int]:
        """Which tokens of a whole text a span of its characters covers, by the release's rule.

        The first token is the number of tokens of the text before the span, less one if the
        span changes the last of them; the end is the number of tokens of the text up to its end.

        Args:
            text: Plain words, encoded as a whole.
            start: First character of the span.
            end: Character behind the span.

        Returns:
            Indices into ``encode(text)``, the second exclusive.

        Raises:
            MarkupError: If the span is not inside the text, or no whole tokens answer to it. The
                release skips such a sample, or writes a phrase that does not close.

        Source: the caption loader of the release.
        """
        if not 0 <= start < end <= len(text):
            raise MarkupError(
                f"expected a span inside {len(text)} characters, found {(start, end)}",
                position=start,
            )
        before, upto, whole = self.encode_batch([text[:start], text[:end], text])
        first = len(before)
        if before != upto[:first]:
            first -= 1
            if before[:first] != upto[:first]:
                raise MarkupError(
                    "expected the words before the span to be tokenized as they are with it, "
                    f"found {text[:start]!r} to differ",
                    position=start,
                )
        if not first < len(upto) <= len(whole):
            raise MarkupError(
                f"expected whole tokens, found none for {text[start:end]!r}", position=start
            )
        return first, len(upto)

    # --- ids to words

    def decode(self, ids: Sequence[int], *, markup: bool = True) -> str:
        """The text of ids, as the release prints it.

        Pieces are joined, word boundaries become spaces and spaces at the ends go. ``<s> </s>
        <pad> <mask> </doc> </chunk>`` and images from ``<image>`` to ``</image>`` are left out,
        ``</line>`` is a line break, an unknown word is a double question mark between spaces.

        Args:
            ids: Token ids.
            markup: Whether the grounding tokens are written out.

        Raises:
            DataError: If an id is not in the vocabulary.
        """
        text = say(ids, self.surfaces.markup if markup else self.surfaces.words)
        if text is not None:
            return text.strip()
        stream = self.stream(markup=markup)
        return "".join([stream.push(token_id) for token_id in ids]) + stream.finish()

    def lex(self, ids: Sequence[int]) -> list[Lexeme]:
        """Cut ids into words and grounding tokens; joined, they are the text of :meth:`decode`.

        What is a token is told by its id, so words spelled like one stay words. Positions are
        indices into the ids.

        Raises:
            DataError: If an id is not in the vocabulary.
        """
        lexemes: list[Lexeme] = []
        words: list[str] = []  # of the stretch at hand, which begins behind the last token
        start = 0
        stream = self.stream()
        for index, token_id in enumerate(ids):
            said = stream.push(token_id)
            token = self._lexemes.get(token_id) if said else None  # none inside an image
            if token is None:
                words.append(said)
                continue
            words.append(said.removesuffix(token.text))
            if any(words):
                lexemes.append(Lexeme("words", "".join(words), start))
            lexemes.append(token._replace(position=index))
            words, start = [], index + 1
        words.append(stream.finish())
        if any(words):
            lexemes.append(Lexeme("words", "".join(words), start))
        return lexemes

    def stream(self, *, markup: bool = True) -> StreamDecoder:
        """A decoder for ids that come one by one; what it gives adds up to :meth:`decode`."""
        return StreamDecoder(self.surfaces.pieces, self.vocabulary, markup=markup)

    def token(self, token_id: int) -> str:
        """How the dictionary writes an id: a piece with its word boundary, or a control token.

        Raises:
            DataError: If the id is not in the vocabulary.
        """
        if NUM_MODEL_CONTROLS < token_id < self.vocabulary.mask_id:
            piece: str = self._processor.id_to_piece(token_id)
            return piece
        token = self.vocabulary.control_token(token_id)
        if token is None:
            raise DataError(f"token id: expected 0 to {self.vocabulary.size - 1}, found {token_id}")
        return token

    def _cut(self, typed_control: TypedControl) -> Callable[[str], list[str]]:
        """What cuts a text into stretches of words, some of them empty, and tokens, in turns."""
        pattern = _PATTERNS[typed_control, bool(self.grounding_ids)]
        return pattern.split if pattern is not None else lambda text: [text]

    def _woven(self, turns: Sequence[str], encoded: Iterator[list[int]]) -> list[int]:
        """Ids of stretches and tokens in turns; of each stretch with words the next encoded."""
        if len(turns) == 1 and turns[0]:
            return next(encoded)
        control_ids = self._control_ids
        ids: list[int] = []
        is_token = False
        for part in turns:
            if is_token:
                if part not in control_ids:
                    raise self._unknown_location("".join(turns), part)
                ids.append(control_ids[part])
            elif part:
                ids += next(encoded)
            is_token = not is_token
        return ids

    def _unknown_location(self, text: str, token: str) -> MarkupError:
        last = self.vocabulary.num_locations - 1
        lexeme = next(lexeme for lexeme in lex(text) if lexeme.text == token)
        if lexeme.location <= last:
            expected = location_token(lexeme.location)
        else:
            expected = f"{location_token(0)} to {location_token(last)}"
        return MarkupError(f"expected {expected}, found {token!r}", position=lexeme.position)


def _restore(kind: type[Tokenizer], model: bytes, num_cells: int) -> Tokenizer:
    return kind(model, num_cells=num_cells)


def _processor(model: bytes, where: str) -> sentencepiece.SentencePieceProcessor:
    """The model behind bytes, checked to be one that our ids fit."""
    processor = sentencepiece.SentencePieceProcessor()
    ordered = in_dictionary_order(model, where)
    try:
        processor.LoadFromSerializedProto(ordered)
    except (RuntimeError, ValueError, OSError) as error:
        raise no_model(model, where) from error
    return processor
