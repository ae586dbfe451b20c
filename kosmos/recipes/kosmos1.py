"""KOSMOS-1: text, captions and interleaved pages from scratch."""

from kosmos.data.config import Stream
from kosmos.document.layout import TRAINING
from kosmos.image.config import ImageConfig
from kosmos.model.config import PRESETS
from kosmos.train.config import Run, TrainConfig


def kosmos1() -> Run:
    """KOSMOS-1 pre-training: 1.6B parameters on text, captions and interleaved pages.

    Paper: arXiv:2302.14045, section 3.2, Tables 17 and 18.
    Command: kosmos train kosmos1 --out runs/kosmos1
        --set tokenizer=... --set streams.text.path=... --set streams.captions.path=...
        --set streams.interleaved.path=...
    Hardware and time: not stated in the paper; not run by us at this size. `microcosm` is its
        small twin and goes through the same code.
    Should reach: the paper's Tables 2 to 16, for example COCO CIDEr 84.7 zero-shot after tuning.

    Mean lengths are the paper's tokens per step over its batch sizes: 0.5M over 256 rows of text,
    0.5M over 6,144 captions, 0.2M over 128 pages. CLIP ViT-L/14 weights go into the vision tower
    first (`kosmos weights import --format clip`), as a model folder named in train.start_from.
    """
    return Run(
        name="kosmos1",
        source="arXiv:2302.14045",
        model=PRESETS["kosmos1"],
        image=ImageConfig(geometry="center-crop"),
        layout=TRAINING,
        num_cells=0,
        streams=(
            Stream(
                name="text",
                path="",
                sequences_per_step=256,
                tokens_per_sequence=500_000 / 256,
                packing="full-sentence",
                line_tokens=True,
            ),
            Stream(
                name="captions",
                path="",
                sequences_per_step=6144,
                tokens_per_sequence=500_000 / 6144,
                images_per_sequence=1.0,
            ),
            Stream(
                name="interleaved",
                path="",
                sequences_per_step=128,
                tokens_per_sequence=200_000 / 128,
                # at most 5 images a page; the paper does not state the mean
                images_per_sequence=2.5,
            ),
        ),
        train=TrainConfig(
            steps=300_000,
            warmup_steps=375,
            learning_rate=2e-4,
            vision="last-layer",
            checkpoint_every=5000,
        ),
        stated_tokens_per_step=1.2e6,
        stated_total_tokens=360e9,
    )
