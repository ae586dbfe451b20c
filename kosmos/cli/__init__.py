"""One executable; one lazily imported file per command."""
