"""The microcosm's recipes: the papers' stages on a world that two CPU cores can learn.

Order: `microcosm-vision` makes the tower that the papers take from CLIP, `microcosm` pre-trains on
all streams, `microcosm-instruct` tunes with language-only instructions; `microcosm-baseline` is the
decoder alone on the same text. `kosmos quickstart` runs them in this order.
"""

from dataclasses import replace as replace_fields
from typing import Literal

from kosmos.config import replace
from kosmos.data.config import DataConfig, Stream
from kosmos.document.layout import Layout
from kosmos.image.config import ImageConfig
from kosmos.model.config import PRESETS, with_vocabulary
from kosmos.train.config import Run, TrainConfig

NUM_PIECES = 352
"""Pieces of the tokenizer; the world's few hundred words allow about 370."""
NUM_CELLS = 16
"""Cells along each side of the location grid: 4 pixels of 64 each. The papers' 32 on 224 pixels
are 7 each; with 1,024 location tokens a run of minutes would see each only a few times."""


def microcosm_vision() -> Run:
    """A vision tower for the microcosm: patches of grounded captions pick words and places.

    Source: ours; see kosmos/train/regions.py. The papers start from CLIP ViT-L/14 instead.
    Command: kosmos train microcosm-vision --out vision
    Hardware and time: two and a half minutes on two CPU cores.
    Should reach: see experiments/LOG.md.

    The seed is that of `microcosm`, so that the untrained rest of the model is the same there.
    """
    base = microcosm()
    grounded = next(stream for stream in base.data.streams if stream.name == "grounded")
    return replace(
        base,
        {
            "name": "microcosm-vision",
            "streams": (replace(grounded, {"sequences_per_step": 16}),),
            "train": replace_fields(
                base.train,
                steps=3600,
                warmup_steps=100,
                learning_rate=2e-3,
                objective="regions",
                vision="all",
                start_from="",
            ),
        },
    )


def microcosm() -> Run:
    """A small KOSMOS pre-trained on a world of its own: text, captions, boxes, questions, pages.

    Source: ours; the streams and the rules are those of arXiv:2302.14045 and arXiv:2306.14824.
    Command: kosmos microcosm make microcosm, then
        kosmos tokenizer train microcosm/train/* --num-pieces 352 --out microcosm/tokenizer.model,
        then kosmos train microcosm-vision --out vision and kosmos train microcosm --out pretrain
    Hardware and time: three and a half minutes on two CPU cores.
    Should reach: see experiments/LOG.md; on held-out scenes colors, shapes, answers and boxes are
        clearly above chance.
    """
    return Run(
        name="microcosm",
        source="",
        model=with_vocabulary(PRESETS["micro"], NUM_PIECES + 13 + NUM_CELLS**2),
        data=DataConfig(
            image=ImageConfig(size=64),
            layout=Layout(num_image_tokens=16),
            tokenizer="microcosm/tokenizer.model",
            num_cells=NUM_CELLS,
            streams=(
                _stream("text", 1, 128.0, packing="full-sentence", line_tokens=True),
                _stream("captions", 8, 40.0, images=1.0),
                _stream("grounded", 12, 60.0, images=1.0),
                _stream("vqa", 8, 55.0, images=1.0),
                _stream("interleaved", 1, 220.0, images=3.0),
                _stream("grounded-instruct", 2, 45.0, images=1.0),
            ),
        ),
        train=TrainConfig(
            steps=1200,
            warmup_steps=50,
            learning_rate=2e-3,
            # KOSMOS-1's rule; a tower that trains whole beside a fresh decoder forgets what it
            # saw (measured: experiments/LOG.md)
            vision="last-layer",
            checkpoint_every=100,
            start_from="vision/model",
        ),
    )


def microcosm_instruct() -> Run:
    """The microcosm's model tuned with language-only instructions, pre-training streams beside.

    Source: ours, after arXiv:2302.14045 section 3.3: loss on outputs, streams in smaller shares.
    Command: kosmos train microcosm-instruct --out instruct
    Hardware and time: ten seconds on two CPU cores.
    Should reach: see experiments/LOG.md.
    """
    base = microcosm()
    shares = {"text": 1, "captions": 2, "grounded": 4, "vqa": 4, "interleaved": 1}
    return replace(
        base,
        {
            "name": "microcosm-instruct",
            "streams": (
                _stream("instruct", 8, 40.0),
                *(
                    replace(stream, {"sequences_per_step": shares.get(stream.name, 1)})
                    for stream in base.data.streams
                ),
            ),
            "train": replace_fields(
                base.train,
                steps=80,
                warmup_steps=10,
                learning_rate=5e-4,
                start_from="pretrain/model",
            ),
        },
    )


def microcosm_baseline() -> Run:
    """The microcosm's decoder alone on the same text, without eyes.

    Source: ours, after the papers' LLM baseline (arXiv:2302.14045 Tables 13 and 16).
    Command: kosmos train microcosm-baseline --out baseline
    Hardware and time: a minute on two CPU cores.
    Should reach: chance on colors of kinds that only pictures show.
    """
    base = microcosm()
    return replace(
        base,
        {
            "name": "microcosm-baseline",
            "model": replace_fields(base.model, vision=None, connector=None),
            "streams": tuple(stream for stream in base.data.streams if stream.name == "text"),
            "train.start_from": "",
        },
    )


def _stream(
    name: str,
    sequences: int,
    tokens: float,
    *,
    images: float = 0.0,
    packing: Literal["single", "full-sentence", "isolated"] = "single",
    line_tokens: bool = False,
) -> Stream:
    return Stream(
        name=name,
        path=f"microcosm/train/{name}",
        heldout_path=f"microcosm/heldout/{name}",
        sequences_per_step=sequences,
        tokens_per_sequence=tokens,
        images_per_sequence=images,
        packing=packing,
        max_tokens=128 if packing == "full-sentence" else 512,
        line_tokens=line_tokens,
    )
