"""Train a SentencePiece model with the settings of the released one.

Deterministic: the same texts in the same order give the same bytes (one thread).

Source: the trainer settings stored inside the released model file, read from it. Departure: the
release skipped lines over 4,192 bytes; we break them between words, so that no text is lost. The
tables behind ``nmt_nfkc`` are those of the installed SentencePiece, whose Unicode is newer.
"""

import io
import re
from collections.abc import Iterable, Iterator

import sentencepiece

from kosmos.errors import ConfigError, DataError
from kosmos.text.vocabulary import NUM_MODEL_CONTROLS

MAX_LINE_BYTES = 4192

# SentencePiece passes over lines holding the last two, which it uses inside; all are spaces or
# nothing to a reader.
_RESERVED = str.maketrans({"\t": " ", "\x00": " ", "\u2585": " "})
_TOO_MANY = re.compile(r"Vocabulary size too high .*<= (\d+)")
_TOO_FEW = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")
_SILENT = 3  # only fatal errors; the rest arrives as exceptions


def train_tokenizer(
    texts: Iterable[str],
    *,
    num_pieces: int,
    byte_fallback: bool = False,
    character_coverage: float = 0.99999,
    max_piece_length: int = 16,
    num_threads: int = 1,
) -> bytes:
    """Train a unigram model.

    Args:
        texts: Any stretches of text; a line break always separates words. All of it is held in
            memory while training, so pass a sample of a large corpus.
        num_pieces: Pieces to learn, the three control pieces included.
        byte_fallback: Spell characters outside the model as bytes instead of ``<unk>``; takes
            256 of the pieces.
        character_coverage: Share of the characters of the texts that must get a piece.
        max_piece_length: Longest piece, in characters.
        num_threads: Threads to train with; the pieces may depend on their number.

    Returns:
        The bytes of a ``.model`` file.

    Raises:
        ConfigError: If the texts cannot give this many pieces, or need more; the message has
            the number they can.
        DataError: If there is no text.
    """
    if num_pieces <= NUM_MODEL_CONTROLS:
        raise ConfigError(
            f"num_pieces: expected more than the {NUM_MODEL_CONTROLS} control pieces, "
            f"found {num_pieces}"
        )
    lines = _Lines(texts)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=num_pieces,
            character_coverage=character_coverage,
            max_sentencepiece_length=max_piece_length,
            max_sentence_length=MAX_LINE_BYTES,
            normalization_rule_name="nmt_nfkc",
            add_dummy_prefix=True,
            remove_extra_whitespaces=True,
            split_by_number=True,
            split_by_unicode_script=True,
            split_by_whitespace=True,
            split_digits=False,
            byte_fallback=byte_fallback,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=num_threads,
            minloglevel=_SILENT,
        )
    except (RuntimeError, ValueError) as error:
        raise _explained(error, lines, num_pieces) from error
    return model.getvalue()


class _Lines:
    """The texts as SentencePiece wants them; remembers what went wrong on the way."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.num_lines = 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for text in self.texts:
                for line in text.translate(_RESERVED).splitlines():
                    for part in _broken(line):
                        self.num_lines += 1
                        yield part
        except BaseException as error:  # SentencePiece makes text of it; see _explained
            self.error = error
            raise


def _broken(line: str) -> Iterator[str]:
    """A line in parts that SentencePiece accepts, cut between words where there are words."""
    if line.isspace() or not line:
        return
    if len(line.encode()) < MAX_LINE_BYTES:
        yield line
        return
    part: list[str] = []
    num_bytes = 0
    for word in line.split():
        # a character takes up to 4 bytes
        for start in range(0, len(word), MAX_LINE_BYTES // 8):
            piece = word[start : start + MAX_LINE_BYTES // 8]
            size = len(piece.encode()) + 1
            if num_bytes + size >= MAX_LINE_BYTES:
                yield " ".join(part)
                part, num_bytes = [], 0
            part.append(piece)
            num_bytes += size
    yield " ".join(part)


def _explained(error: Exception, lines: _Lines, num_pieces: int) -> BaseException:
    """The error as a reader needs it; the texts' own error where they raised one."""
    if lines.error is not None:
        return lines.error
    if lines.num_lines == 0:
        return DataError("tokenizer training: expected text, found none")
    if match := _TOO_MANY.search(str(error)):
        return ConfigError(
            f"num_pieces: expected at most {match[1]} for these texts, found {num_pieces}",
            hint="train on more text, or ask for fewer pieces",
        )
    if match := _TOO_FEW.search(str(error)):
        return ConfigError(
            f"num_pieces: expected at least {match[1]} to cover the characters of these texts, "
            f"found {num_pieces}",
            hint="ask for more pieces, or lower character_coverage",
        )
    return ConfigError(f"tokenizer training: {error}")
