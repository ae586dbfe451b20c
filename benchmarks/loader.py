"""Photographs and captions from tar shards to batches, in one thread of one process.

The peer does what nobody can leave out: it decodes the same JPEG bytes, held in memory, and resizes
them. Ours also finds and reads documents, lays tokens out and normalizes pixels, so the ratio is
the share of its time that goes to what cannot be left out. Beside it: how much of a training step
of a small model is spent waiting for such batches, read ahead by the thread that training has.
"""

import io
import shutil
import sys
import time
from dataclasses import replace
from functools import cache

import numpy as np
import PIL.Image
from PIL.Image import Resampling

from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.inputs import sentences
from benchmarks.harness.measure import DisagreementError, Target, Times
from benchmarks.harness.training import Ours
from kosmos.data.config import DataConfig, Stream
from kosmos.data.loader import Loader
from kosmos.document.layout import TRAINING
from kosmos.document.shards import ShardWriter
from kosmos.document.types import Document, Image, Text
from kosmos.image.config import ImageConfig
from kosmos.weights.folder import load_model

NUM_PHOTOS, NUM_STEPS = 64, 8
TRAINED_PHOTOS = 16
"""Captions of a training step: some 1,300 tokens, a short step for a small model."""
WAITING = "waiting, of a training step"
BENCHMARK = Benchmark(
    name="loader",
    title="loader",
    workload=f"{NUM_PHOTOS} photos and captions from tar to batches",
    peer="Pillow, decode and resize alone",
    targets=[
        Target(name=RATIO, bound=0.9),
        Target(name=WAITING, bound=0.02, at_most=True),
    ],
    size="small",
    rounds=7,
    on_cuda=False,
)


def prepare(setting: Setting) -> Case:
    """Shards of photographs; every round reads the next step."""
    per_step = setting.count(NUM_PHOTOS, 4)
    photos = setting.photos.take(0, per_step * setting.count(NUM_STEPS, 2))
    loaded = load_model(setting.folder)
    image = ImageConfig(size=loaded.image.size)
    folder = setting.args.work / "loader"
    # shards of an earlier run may be of other photographs
    shutil.rmtree(folder, ignore_errors=True)
    with ShardWriter(folder / "shards") as writer:
        for photo, line in zip(photos, sentences(len(photos)), strict=True):
            words = " ".join(line.split()[:12])
            writer.write(Document([Image(photo), Text(words)], id=photo.name))
    encoded = {photo.name: photo.read_bytes() for photo in photos}

    def open_loader(sequences: int) -> Loader:
        stream = Stream(
            name="captions",
            path=str(folder / "shards"),
            sequences_per_step=sequences,
            tokens_per_sequence=81.0,
        )
        return Loader(
            DataConfig(
                image=image,
                layout=replace(TRAINING, num_image_tokens=loaded.layout.num_image_tokens),
                num_cells=loaded.tokenizer.vocabulary.num_cells,
                streams=(stream,),
            ),
            loaded.tokenizer,
            seed=setting.args.seed,
            cache_folder=folder / "index",
        )

    loader = open_loader(per_step)
    size = (image.size, image.size)

    @cache
    def names(turn: int) -> tuple[str, ...]:
        return tuple(name for batch in loader.step(turn) for name in batch.document_ids)

    def theirs(turn: int) -> list[np.ndarray]:
        squares = []
        for name in names(turn):
            picture = PIL.Image.open(io.BytesIO(encoded[name])).convert("RGB")
            squares.append(np.asarray(picture.resize(size, Resampling.BICUBIC)))
        return squares

    def check() -> dict[str, object]:
        for turn in range(setting.args.warmups + setting.args.rounds + 1):
            names(turn)  # asked for before the clock runs
        batches = loader.step(0)
        mean, std = (
            np.array(values, np.float32)[:, None, None] for values in (image.mean, image.std)
        )
        found = np.concatenate([batch.pixels for batch in batches if batch.pixels is not None])
        for name, pixels, square in zip(names(0), found, theirs(0), strict=True):
            expected = (square.transpose(2, 0, 1).astype(np.float32) / np.float32(255) - mean) / std
            if not np.array_equal(pixels, expected):
                raise DisagreementError(f"{name}: expected the pixels of decoding and resizing")
        return {
            "bytes of a photo": round(float(np.mean([len(data) for data in encoded.values()]))),
            "micro-batches of a step": len(batches),
        }

    def further(times: Times) -> dict[str, float]:
        del times
        return {WAITING: _waiting(setting, open_loader(setting.count(TRAINED_PHOTOS, 4)))}

    return Case(
        ours=loader.step,
        peer=theirs,
        check=check,
        further=further,
        unit="photos",
        count=per_step,
    )


def _waiting(setting: Setting, loader: Loader, steps: int = 5) -> float:
    """Share of training that goes by until batches are there, but for the first."""
    ours = Ours(setting.folder, vision=True)
    waited, began = 0.0, 0.0
    batches = loader.prefetch(0, steps)
    for step in range(steps):
        start = time.perf_counter()
        batch = next(batches)
        if step == 0:
            began = time.perf_counter()
        else:
            waited += time.perf_counter() - start
        ours.step(batch)
    spent = time.perf_counter() - began
    batches.close()
    return waited / spent


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
