"""KOSMOS-2: KOSMOS-1 continued on grounded captions, as the paper says and as released."""

from kosmos.config import replace
from kosmos.data.config import DataConfig, Stream
from kosmos.document.layout import TRAINING, AnswerConfig
from kosmos.image.config import ImageConfig
from kosmos.model.config import PRESETS
from kosmos.train.config import Run, TrainConfig


def kosmos2() -> Run:
    """KOSMOS-2: KOSMOS-1 continued on grounded captions (GRIT), all parameters trained.

    Paper: arXiv:2306.14824, section 3.3, Table 7.
    Command: kosmos train kosmos2 --out runs/kosmos2
        --set train.start_from=runs/kosmos1/model --set tokenizer=... and a path for each stream
    Hardware and time: about a day on 256 V100 in the paper; not run by us at this size.
    Should reach: Flickr30k Entities R@1 77.8 (val), RefCOCOg 60.57 (val), Flickr30k CIDEr 66.7.

    Mean lengths are the paper's 185K, 215K and 19K tokens per step over its batch sizes. The
    text rows hold 93 x 2,048 = 190K positions, of which full-sentence packing fills 185K.
    """
    return Run(
        name="kosmos2",
        source="arXiv:2306.14824",
        model=PRESETS["kosmos2"],
        data=DataConfig(
            image=ImageConfig(geometry="center-crop"),
            layout=TRAINING,
            num_cells=32,
            streams=(
                Stream(
                    name="text",
                    path="",
                    sequences_per_step=93,
                    tokens_per_sequence=185_000 / 93,
                    packing="full-sentence",
                    line_tokens=True,
                ),
                Stream(
                    name="captions",
                    path="",
                    sequences_per_step=1117,
                    tokens_per_sequence=215_000 / 2234,
                    images_per_sequence=1.0,
                    ground=False,
                ),
                Stream(
                    name="grounded",
                    path="",
                    sequences_per_step=1117,
                    tokens_per_sequence=215_000 / 2234,
                    images_per_sequence=1.0,
                ),
                Stream(
                    name="interleaved",
                    path="",
                    sequences_per_step=47,
                    tokens_per_sequence=19_000 / 47,
                    images_per_sequence=2.5,
                ),
            ),
        ),
        answers=AnswerConfig(),
        train=TrainConfig(
            steps=60_000,
            warmup_steps=375,
            learning_rate=2e-4,
            vision="all",
            fresh=False,
            checkpoint_every=5000,
        ),
        stated_tokens_per_step=419e3,
        stated_total_tokens=25e9,
    )


def kosmos2_released() -> Run:
    """KOSMOS-2 as its code was released: captions only, half of them grounded, CLIP frozen.

    Source: microsoft/unilm kosmos-2/train.sh: data weights 0,8,0 (interleaved, captions, text),
        6 captions a worker and 8 accumulation steps, use-object-bbox-prob 0.5, clip norm 2.0.
    Command: kosmos train kosmos2-released --out runs/released ...
    Hardware and time: not run by us at this size.
    Should reach: not stated; the public checkpoint came from a run of the paper's mixture.

    The step is that of 64 workers; the release does not fix their number. Its per-sample coin for
    the grounded form is two streams of equal size here, so that every step holds the same share.
    """
    base = kosmos2()
    captions, grounded = base.data.streams[1], base.data.streams[2]
    return replace(
        base,
        {
            "name": "kosmos2-released",
            "source": "microsoft/unilm kosmos-2/train.sh",
            "model": PRESETS["kosmos2-released"],
            "streams": (
                replace(captions, {"sequences_per_step": 64 * 6 * 8 // 2}),
                replace(grounded, {"sequences_per_step": 64 * 6 * 8 // 2}),
            ),
            "train.vision": "frozen",
            "stated_tokens_per_step": 0.0,
            "stated_total_tokens": 0.0,
        },
    )
