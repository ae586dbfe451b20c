"""Instruction tuning of both papers: instruction documents mixed with the pre-training streams."""

from kosmos.config import replace
from kosmos.data.config import Stream
from kosmos.recipes.kosmos1 import kosmos1
from kosmos.recipes.kosmos2 import kosmos2
from kosmos.train.config import Run, TrainConfig


def kosmos1_instruct() -> Run:
    """KOSMOS-1 language-only instruction tuning: loss on outputs, an eighth of each stream beside.

    Paper: arXiv:2302.14045, section 3.3, Table 19: Unnatural Instructions (68,478 triplets) and
        54k FLANv2 examples with the pre-training corpora.
    Command: kosmos train kosmos1-instruct --out DIR
        --set train.start_from=runs/kosmos1/model and a path for each stream
    Hardware and time: not run by us at this size.
    Should reach: VQAv2 46.7 -> 51.0, VizWiz 27.9 -> 29.2, Flickr30k CIDEr 65.2 -> 67.1 (Table 14).

    The paper does not state the length of an instruction; 200 tokens is our planning figure.
    """
    base = kosmos1()
    text, captions, interleaved = base.data.streams
    # the epochs that the paper states are of pre-training
    corpora = tuple(replace(corpus, {"stated_epochs": 0.0}) for corpus in text.corpora)
    return replace(
        base,
        {
            "name": "kosmos1-instruct",
            "streams": (
                Stream(name="instruct", path="", sequences_per_step=256, tokens_per_sequence=200.0),
                replace(text, {"sequences_per_step": 32, "corpora": corpora}),
                replace(captions, {"sequences_per_step": 768}),
                replace(interleaved, {"sequences_per_step": 16}),
            ),
            "train": TrainConfig(
                steps=10_000,
                warmup_steps=375,
                learning_rate=2e-5,
                vision="last-layer",
                fresh=False,
            ),
            "stated_tokens_per_step": 0.0,
            "stated_total_tokens": 0.0,
        },
    )


def kosmos2_instruct() -> Run:
    """KOSMOS-2 instruction tuning: language, vision-language and grounded instructions.

    Paper: arXiv:2306.14824, section 3.4, Tables 8 and 9: LLaVA-Instruct, Unnatural Instructions,
        FLANv2 and instructions built from GRIT's expressions with six templates.
    Command: kosmos train kosmos2-instruct --out DIR
        --set train.start_from=runs/kosmos2/model and a path for each stream
    Hardware and time: not run by us at this size.
    Should reach: Flickr30k CIDEr 80.5, VQAv2 51.1, RefCOCOg 60.57 (val).

    The paper does not state the length of an instruction; 200 tokens, and 200 beside the image's
    64, are our planning figures. Grounded pairs and grounded instructions share one stream.
    """
    base = kosmos2()
    text, _, grounded, interleaved = base.data.streams
    return replace(
        base,
        {
            "name": "kosmos2-instruct",
            "streams": (
                Stream(name="instruct", path="", sequences_per_step=117, tokens_per_sequence=200.0),
                Stream(
                    name="visual-instruct",
                    path="",
                    sequences_per_step=351,
                    tokens_per_sequence=264.0,
                    images_per_sequence=1.0,
                ),
                replace(grounded, {"sequences_per_step": 1404}),
                replace(text, {"sequences_per_step": 30}),
                replace(interleaved, {"sequences_per_step": 15}),
            ),
            "train": TrainConfig(
                steps=10_000, warmup_steps=375, learning_rate=1e-5, vision="all", fresh=False
            ),
            "stated_tokens_per_step": 0.0,
            "stated_total_tokens": 0.0,
        },
    )
