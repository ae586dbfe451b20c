"""Language-only baselines: the same decoder on the same text, without eyes."""

from kosmos.config import replace
from kosmos.model.config import PRESETS
from kosmos.recipes.kosmos1 import kosmos1
from kosmos.recipes.kosmos2 import kosmos2
from kosmos.train.config import Run


def kosmos1_baseline() -> Run:
    """The LLM that KOSMOS-1 is compared with: its decoder on its text stream alone.

    Paper: arXiv:2302.14045, Tables 8, 13 and 16 ("LLM": same text corpora and training setup).
    Command: kosmos train kosmos1-baseline --out runs/baseline
        --set tokenizer=... --set streams.text.corpora.wikipedia.path=... and so on for Table 20
    Hardware and time: not run by us at this size.
    Should reach: HellaSwag 50.4, PIQA 73.2, MemoryColor 61.4.
    """
    return _text_only(kosmos1(), "kosmos1-baseline")


def kosmos2_baseline() -> Run:
    """A language-only twin of KOSMOS-2: its decoder and vocabulary on its text stream alone.

    Paper: arXiv:2306.14824, Table 6 compares with the KOSMOS-1 baseline; this twin is ours.
    Command: kosmos train kosmos2-baseline --out runs/baseline2 ...
    Hardware and time: not run by us at this size.
    Should reach: not stated.
    """
    return _text_only(kosmos2(), "kosmos2-baseline")


def _text_only(run: Run, name: str) -> Run:
    return replace(
        run,
        {
            "name": name,
            "model": PRESETS[name],
            "streams": tuple(stream for stream in run.data.streams if stream.name == "text"),
            "train.fresh": True,
            "train.vision": "last-layer",  # the default: there is no tower
            "stated_tokens_per_step": 0.0,
            "stated_total_tokens": 0.0,
        },
    )
