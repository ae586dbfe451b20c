"""Vocabulary: which id is which token. Pure arithmetic over two numbers; holds no table of words.

The order in which the release added tokens, with 64,000 pieces and a 32 x 32 grid::

    0 <s>   1 <pad>   2 </s>   3 <unk>
    4 ... 64000          the SentencePiece pieces from its fourth on: id = piece index + 1
    64001 <mask>   64002 </doc>   64003 <image>   64004 </image>   64005 </chunk>   64006 </line>
    64007 <phrase>   64008 </phrase>   64009 <object>   64010 </object>
    64011 </delimiter_of_multi_objects/>   64012 <grounding>
    64013 ... 65036      <patch_index_0000> ... <patch_index_1023>

Without the grid the table ends at ``</line>``: 64,007 tokens, the vocabulary of KOSMOS-1.

The trap is the shift by one: id 64000 is a piece, although the model file counts 64,000 of them.

Source: KOSMOS-1 (arXiv:2302.14045) Table 17; the released dict.txt and its token list.
"""

import re
from dataclasses import dataclass

from kosmos.errors import ConfigError

GROUNDING = "<grounding>"
PHRASE = "<phrase>"
PHRASE_END = "</phrase>"
OBJECT = "<object>"
OBJECT_END = "</object>"
DELIMITER = "</delimiter_of_multi_objects/>"

_FIRST = ("<s>", "<pad>", "</s>", "<unk>")
_AFTER_PIECES = ("<mask>", "</doc>", "<image>", "</image>", "</chunk>", "</line>")
_GROUNDING = (PHRASE, PHRASE_END, OBJECT, OBJECT_END, DELIMITER, GROUNDING)
_OFFSET = {token: index for index, token in enumerate(_AFTER_PIECES + _GROUNDING)}
_LOCATION = re.compile(r"<patch_index_([0-9]{4,})>")

NUM_MODEL_CONTROLS = 3
"""Pieces of a SentencePiece model that are no words: ``<unk> <s> </s>``."""


def location_token(index: int) -> str:
    """How a location index is written: ``44`` is ``<patch_index_0044>``."""
    return f"<patch_index_{index:04d}>"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Ids of a tokenizer with a number of pieces and a grid.

    Args:
        num_pieces: Pieces of the SentencePiece model, its three control pieces included.
        num_cells: Cells along each side of the location grid; 0 leaves grounding out.

    Raises:
        ConfigError: If there is no room for a word, or the grid is negative.
    """

    num_pieces: int
    num_cells: int = 32

    def __post_init__(self) -> None:
        if self.num_pieces <= NUM_MODEL_CONTROLS:
            raise ConfigError(
                f"num_pieces: expected more than the {NUM_MODEL_CONTROLS} control pieces, "
                f"found {self.num_pieces}"
            )
        if self.num_cells < 0:
            raise ConfigError(
                f"num_cells: expected 0 or a number of cells a side, found {self.num_cells}"
            )

    @property
    def bos_id(self) -> int:
        """``<s>``."""
        return 0

    @property
    def pad_id(self) -> int:
        """``<pad>``."""
        return 1

    @property
    def eos_id(self) -> int:
        """``</s>``."""
        return 2

    @property
    def unk_id(self) -> int:
        """``<unk>``."""
        return 3

    @property
    def mask_id(self) -> int:
        """``<mask>``; every id from 4 up to this one is a piece."""
        return self.num_pieces + 1

    @property
    def doc_end_id(self) -> int:
        """``</doc>``."""
        return self.mask_id + 1

    @property
    def image_id(self) -> int:
        """``<image>``."""
        return self.mask_id + 2

    @property
    def image_end_id(self) -> int:
        """``</image>``."""
        return self.mask_id + 3

    @property
    def chunk_end_id(self) -> int:
        """``</chunk>``."""
        return self.mask_id + 4

    @property
    def line_end_id(self) -> int:
        """``</line>``."""
        return self.mask_id + 5

    @property
    def phrase_id(self) -> int:
        """``<phrase>``."""
        return self._grounding_id(PHRASE)

    @property
    def phrase_end_id(self) -> int:
        """``</phrase>``."""
        return self._grounding_id(PHRASE_END)

    @property
    def object_id(self) -> int:
        """``<object>``."""
        return self._grounding_id(OBJECT)

    @property
    def object_end_id(self) -> int:
        """``</object>``."""
        return self._grounding_id(OBJECT_END)

    @property
    def delimiter_id(self) -> int:
        """``</delimiter_of_multi_objects/>``."""
        return self._grounding_id(DELIMITER)

    @property
    def grounding_id(self) -> int:
        """``<grounding>``."""
        return self._grounding_id(GROUNDING)

    @property
    def first_location_id(self) -> int:
        """``<patch_index_0000>``."""
        return self._grounding_id(GROUNDING) + 1

    @property
    def num_locations(self) -> int:
        """Cells of the grid."""
        return self.num_cells**2

    @property
    def size(self) -> int:
        """Number of ids."""
        if self.num_cells == 0:
            return self.mask_id + len(_AFTER_PIECES)
        return self.first_location_id + self.num_locations

    def location_id(self, index: int) -> int:
        """The id of a location index.

        Raises:
            ConfigError: If the index lies outside the grid, or there is no grid.
        """
        first = self.first_location_id
        if not 0 <= index < self.num_locations:
            raise ConfigError(
                f"location index: expected 0 to {self.num_locations - 1} on a grid of "
                f"{self.num_cells} x {self.num_cells}, found {index}"
            )
        return first + index

    def location_index(self, token_id: int) -> int | None:
        """The location index that an id stands for; None for any other id."""
        if self.num_cells == 0:
            return None
        index = token_id - self.first_location_id
        return index if 0 <= index < self.num_locations else None

    def control_id(self, token: str) -> int | None:
        """The id of a control token as it is written; None where there is no such token."""
        if token in _FIRST:
            return _FIRST.index(token)
        offset = _OFFSET.get(token)
        if offset is not None:
            has_it = self.num_cells > 0 or offset < len(_AFTER_PIECES)
            return self.mask_id + offset if has_it else None
        match = _LOCATION.fullmatch(token)
        if match is None or int(match[1]) >= self.num_locations:
            return None
        index = int(match[1])
        return self.location_id(index) if token == location_token(index) else None

    def control_token(self, token_id: int) -> str | None:
        """How the control token with this id is written; None for pieces and unknown ids."""
        if 0 <= token_id < len(_FIRST):
            return _FIRST[token_id]
        if not self.mask_id <= token_id < self.size:
            return None
        offset = token_id - self.mask_id
        named = _AFTER_PIECES + _GROUNDING
        if offset < len(named):
            return named[offset]
        return location_token(offset - len(named))

    def _grounding_id(self, token: str) -> int:
        if self.num_cells == 0:
            raise ConfigError(
                f"vocabulary: expected grounding tokens such as {token}, found num_cells=0",
                hint="the vocabulary of KOSMOS-1 has none; load the tokenizer with num_cells=32",
            )
        return self.mask_id + _OFFSET[token]
