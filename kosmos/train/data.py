"""The data of a run, opened as the run says."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kosmos.data.config import Stream, skipped_steps
from kosmos.data.loader import Loader
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run


def open_data(
    run: Run,
    tokenizer: Tokenizer,
    *,
    cache_folder: Path,
    streams: Sequence[Stream] | None = None,
) -> Loader:
    """The loader that trains a run; indices that are not there yet are made.

    Args:
        run: The run.
        tokenizer: Its tokenizer.
        cache_folder: Where indices are kept.
        streams: Instead of the run's, such as :func:`training_streams`; None: the run's.

    Raises:
        ConfigError: If a stream contradicts itself or names no data.
        DataError: If data is missing, damaged or too much of it unusable.
    """
    return Loader(
        run.streams if streams is None else streams,
        tokenizer,
        seed=run.seed,
        layout=run.layout,
        image=run.image,
        micro_batch_tokens=run.train.micro_batch_tokens,
        heldout_sequences=run.train.heldout_sequences,
        skipped=skipped_steps(run.train.skip_steps),
        cache_folder=cache_folder,
    )


def training_streams(run: Run) -> list[Stream]:
    """The streams without what is held out."""
    return [
        replace(
            stream,
            heldout_path="",
            corpora=tuple(replace(corpus, heldout_path="") for corpus in stream.corpora),
        )
        for stream in run.streams
    ]
