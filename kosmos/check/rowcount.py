"""RowCount: how many rows documents fill, counted while they come, without laying them out."""

import numpy as np

from kosmos.data.config import Packing
from kosmos.data.usable import line_ends
from kosmos.document.encode import Encoded
from kosmos.text.tokenizer import Tokenizer


class RowCount:
    """Rows that documents fill one after another, as :func:`~kosmos.data.packing.pack` has them.

    Args:
        packing: How.
        max_tokens: Longest row.
    """

    def __init__(self, packing: Packing, max_tokens: int) -> None:
        self._packing = packing
        self._capacity = max_tokens - (packing == "full-sentence")
        self._room = 0
        self.num_rows = 0
        self.num_tokens = 0
        self.num_cut_tokens = 0
        """Ends of lines longer than a row."""

    def add(self, encoded: Encoded, tokenizer: Tokenizer) -> None:
        """Put a document behind the others."""
        if self._packing != "full-sentence":
            self._put(len(encoded))
            return
        stops = np.union1d(line_ends(encoded, tokenizer), [len(encoded)])
        # the document's own <s> is left out
        for length in np.diff(stops, prepend=1).tolist():
            self.num_cut_tokens += max(0, length - self._capacity)
            self._put(min(length, self._capacity))

    def _put(self, length: int) -> None:
        if self._packing == "single" or length > self._room or self.num_rows == 0:
            self.num_rows += 1
            self._room = self._capacity
            self.num_tokens += self._packing == "full-sentence"  # each row's own <s>
        self._room -= length
        self.num_tokens += length
