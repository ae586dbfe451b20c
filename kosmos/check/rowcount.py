"""RowCount: how many rows documents fill, counted while they come, without laying them out."""

import numpy as np

from kosmos.data.config import RowConfig
from kosmos.data.usable import Usable


class RowCount:
    """Rows that documents fill one after another, as :func:`~kosmos.data.packing.pack` has them."""

    def __init__(self, rows: RowConfig) -> None:
        self._rows = rows
        self._room = 0
        self.num_rows = 0
        self.num_tokens = 0
        self.num_text_tokens = 0
        """Those of documents: without the ``<s>`` that full-sentence rows bring."""
        self.num_cut_tokens = 0
        """Ends of documents and lines longer than a row."""

    def add(self, usable: Usable) -> None:
        """Put a document behind the others."""
        self.num_cut_tokens += usable.num_cut_tokens
        num_tokens, capacity = len(usable.encoded), self._rows.capacity
        if self._rows.packing != "full-sentence":
            self._put(num_tokens)
            return
        stops = np.union1d(usable.line_ends, [num_tokens])
        # the document's own <s> is left out
        for length in np.diff(stops, prepend=1).tolist():
            self.num_cut_tokens += max(0, length - capacity)
            self._put(min(length, capacity))

    def _put(self, length: int) -> None:
        if self._rows.packing == "single" or length > self._room or self.num_rows == 0:
            self.num_rows += 1
            self._room = self._rows.capacity
            self.num_tokens += self._rows.packing == "full-sentence"  # each row's own <s>
        self._room -= length
        self.num_tokens += length
        self.num_text_tokens += length
