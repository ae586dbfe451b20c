"""Shards, a tokenizer and a run so small that training takes a second; for data, train, e2e."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from kosmos.boxes import Box
from kosmos.data.config import DataConfig, Stream
from kosmos.document.layout import Layout
from kosmos.document.shards import ShardWriter
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.image.config import ImageConfig
from kosmos.model.config import PRESETS, with_vocabulary
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import train_tokenizer
from kosmos.train.config import Run, TrainConfig

COLORS = ("red", "green", "blue", "yellow")
THINGS = ("circle", "square", "star", "ring")
NUM_CELLS = 4


def sentence(rng: np.random.Generator) -> str:
    color, other = rng.choice(COLORS, 2)
    thing, place = rng.choice(THINGS, 2)
    words = ["sits", "stands", "lies"][rng.integers(3)]
    return f"a {color} {thing} {words} near the {other} {place}."


def text_document(number: int, *, num_lines: int | None = None) -> Document:
    rng = np.random.default_rng(number)
    count = int(rng.integers(1, 6)) if num_lines is None else num_lines
    lines = [sentence(rng) for _ in range(count)]
    return Document([Text("\n".join(lines))], id=f"text-{number}")


def picture(rng: np.random.Generator) -> np.ndarray:
    pixels = np.zeros((28, 28, 3), dtype=np.uint8)
    pixels[:] = rng.integers(0, 255, 3)
    return pixels


def caption_document(number: int) -> Document:
    rng = np.random.default_rng(number)
    x0, y0 = rng.uniform(0.0, 0.5, 2)
    return Document(
        [
            Image(picture(rng)),
            Grounded(f"a {rng.choice(COLORS)} {rng.choice(THINGS)}", [Box(x0, y0, x0 + 0.4, 0.9)]),
            Text(" is here, " * int(rng.integers(1, 4)) + "yes."),
        ],
        id=f"caption-{number}",
    )


def page_document(number: int) -> Document:
    rng = np.random.default_rng(number)
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        parts += [Text(sentence(rng)), Image(picture(rng))]
    return Document([*parts, Text(" the end.")], id=f"page-{number}")


def write_shards(folder: Path, documents: list[Document]) -> Path:
    with ShardWriter(folder, documents_per_shard=16) as writer:
        for doc in documents:
            writer.write(doc)
    return folder


def without_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it is not installed. It writes in a thread, which a full disk kills at any time."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """The kernel refuses to let a file grow past a size, as it does when the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def make_tokenizer(folder: Path) -> Path:
    texts = [part.text for n in range(64) for part in text_document(n).parts]
    path = folder / "tokenizer.model"
    Tokenizer.from_bytes(train_tokenizer(texts, num_pieces=30), num_cells=NUM_CELLS).save(path)
    return path


def make_run(folder: Path, *, steps: int = 6) -> Run:
    """Write data and tokenizer under a folder and return a run on them."""
    tokenizer = make_tokenizer(folder)
    text = write_shards(folder / "text", [text_document(n) for n in range(40)])
    captions = write_shards(folder / "captions", [caption_document(n) for n in range(30)])
    pages = write_shards(folder / "pages", [page_document(n) for n in range(10)])
    heldout = write_shards(folder / "heldout", [caption_document(n) for n in range(100, 108)])
    size = Tokenizer.load(tokenizer, num_cells=NUM_CELLS).vocabulary.size
    common = {"tokens_per_sequence": 30.0, "max_tokens": 64}
    return Run(
        name="tiny",
        source="",
        seed=3,
        model=with_vocabulary(PRESETS["nano"], size),
        data=DataConfig(
            image=ImageConfig(size=28),
            layout=Layout(num_image_tokens=4),
            tokenizer=str(tokenizer),
            num_cells=NUM_CELLS,
            streams=(
                Stream(
                    name="text",
                    path=str(text),
                    sequences_per_step=2,
                    packing="full-sentence",
                    line_tokens=True,
                    **common,
                ),
                Stream(
                    name="captions",
                    path=str(captions),
                    sequences_per_step=4,
                    images_per_sequence=1.0,
                    heldout_path=str(heldout),
                    **common,
                ),
                Stream(
                    name="pages",
                    path=str(pages),
                    sequences_per_step=1,
                    packing="isolated",
                    images_per_sequence=2.0,
                    **{**common, "max_tokens": 128},
                ),
            ),
            micro_batch_tokens=128,
        ),
        train=TrainConfig(
            steps=steps,
            warmup_steps=2,
            learning_rate=1e-3,
            vision="all",
            checkpoint_every=2,
            heldout_every=3,
            log_every=1,
        ),
    )
