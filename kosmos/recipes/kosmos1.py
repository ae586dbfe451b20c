"""KOSMOS-1: text, captions and interleaved pages from scratch."""

from kosmos.data.config import Corpus, DataConfig, Stream
from kosmos.document.layout import TRAINING, AnswerConfig
from kosmos.image.config import ImageConfig
from kosmos.model.config import PRESETS
from kosmos.train.config import Run, TrainConfig


def _corpus(name: str, billion_tokens: float, percent: float, epochs: float) -> Corpus:
    return Corpus(name=name, weight=percent, num_tokens=billion_tokens * 1e9, stated_epochs=epochs)


TEXT_CORPORA = (
    _corpus("openwebtext2", 14.8, 21.8, 1.47),
    _corpus("cc-2021-04", 82.6, 17.7, 0.21),
    _corpus("books3", 25.7, 16.2, 0.63),
    _corpus("cc-2020-50", 68.7, 14.7, 0.21),
    _corpus("pile-cc", 49.8, 10.6, 0.21),
    _corpus("realnews", 21.9, 10.2, 0.46),
    _corpus("wikipedia", 4.2, 5.4, 1.29),
    _corpus("bookcorpus2", 1.5, 1.1, 0.75),
    _corpus("gutenberg", 2.7, 1.0, 0.38),
    _corpus("cc-stories", 5.3, 1.0, 0.19),
    _corpus("nih-exporter", 0.3, 0.2, 0.75),
)
"""KOSMOS-1, Table 20: tokens (billions), weight (percent; they sum to 99.9) and epochs."""


def kosmos1() -> Run:
    """KOSMOS-1 pre-training: 1.6B parameters on text, captions and interleaved pages.

    Paper: arXiv:2302.14045, section 3.2, Tables 17 and 18.
    Command: kosmos train kosmos1 --out runs/kosmos1
        --set tokenizer=... --set streams.text.corpora.wikipedia.path=... (and so on, or
        --set streams.text.missing_corpora=drop) --set streams.captions.path=...
        --set streams.interleaved.path=...
    Hardware and time: not stated in the paper; not run by us at this size. `microcosm` is its
        small twin and goes through the same code.
    Should reach: the paper's Tables 2 to 16, for example COCO CIDEr 84.7 zero-shot after tuning.

    Mean lengths are the paper's tokens per step over its batch sizes: 0.5M over 256 rows of text,
    0.5M over 6,144 captions, 0.2M over 128 pages. CLIP ViT-L/14 weights go into the vision tower
    first (`kosmos weights import --format clip`), as a model folder named in train.start_from.

    The text corpora and their weights are Table 20's. Its epochs are those of about 100B tokens of
    text; the 150B that section 3.2 and Table 18 make read each corpus half as often again. Books3
    is no longer distributed: corpora without a path are left out, on the word of one setting.
    """
    return Run(
        name="kosmos1",
        source="arXiv:2302.14045",
        model=PRESETS["kosmos1"],
        data=DataConfig(
            image=ImageConfig(geometry="center-crop"),
            layout=TRAINING,
            num_cells=0,
            streams=(
                Stream(
                    name="text",
                    corpora=TEXT_CORPORA,
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
        ),
        answers=AnswerConfig(),
        train=TrainConfig(
            steps=300_000,
            warmup_steps=375,
            learning_rate=2e-4,
            vision="last-layer",
            fresh=False,
            checkpoint_every=5000,
        ),
        stated_tokens_per_step=1.2e6,
        stated_total_tokens=360e9,
    )
