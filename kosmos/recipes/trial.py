"""The trial: a small model on every kind of real data together, to see that all of it works.

What it proves is the path (readers, loader, mixture, model, held-out losses) on input that nobody
here made; the data is far too little to teach a model of this vocabulary anything of use.
"""

from collections.abc import Mapping
from typing import Literal

from kosmos.data.config import Corpus, DataConfig, Stream
from kosmos.document.layout import Layout
from kosmos.image.config import ImageConfig
from kosmos.model.config import (
    KOSMOS2_VOCAB_SIZE,
    ConnectorConfig,
    DecoderConfig,
    ModelConfig,
    VisionConfig,
)
from kosmos.train.config import Run, TrainConfig

NUM_QUERIES = 16
"""Soft tokens per picture."""


def trial() -> Run:
    """A small KOSMOS on real text, captions, boxes, web pages and instructions at once.

    Source: ours; the streams are those of arXiv:2306.14824, the tokenizer is the released one.
    Command: python experiments/real_data.py DATA OUT, which imports the sources, trains and prints
        the table; or kosmos train trial --out OUT --set tokenizer=sentencepiece.bpe.model where
        `kosmos data import` has filled corpora/.
    Hardware and time: about twelve minutes on two CPU cores.
    Should reach: held-out loss under the unigram baseline on every stream; see experiments/LOG.md.

    Most of a step is the output head: 65,037 rows against 3 million parameters in the layers. So
    rows are short, and the step holds about 1,200 tokens with loss.
    """
    return Run(
        name="trial",
        source="",
        model=ModelConfig(
            decoder=DecoderConfig(
                vocab_size=KOSMOS2_VOCAB_SIZE,
                width=256,
                num_layers=4,
                num_heads=4,
                ffn_width=1024,
                positions="xpos",
                max_tokens=2048,
            ),
            vision=VisionConfig(
                image_size=112,
                patch_size=14,
                width=192,
                num_layers=4,
                num_heads=3,
                ffn_width=768,
                initial_positions="grid",
            ),
            connector=ConnectorConfig(
                kind="perceiver", num_queries=NUM_QUERIES, num_layers=2, num_heads=3, width=192
            ),
        ),
        data=DataConfig(
            image=ImageConfig(size=112),
            layout=Layout(num_image_tokens=NUM_QUERIES),
            num_cells=32,
            streams=(
                _stream("wikipedia", 1, 256.0, packing="full-sentence"),
                _stream("shakespeare", 1, 128.0, packing="full-sentence"),
                _stream("coco", 6, 31.0, images=1.0),
                _stream("cc12m", 1, 42.0, images=1.0),
                _stream("grounded", 6, 42.0, images=1.0),
                _stream(
                    "expressions", 4, 32.0, images=1.0, of={"grit-questions": 3.0, "refcoco": 1.0}
                ),
                _stream("conversations", 1, 109.0, images=1.0),
                _stream("interleaved", 1, 530.0, images=3.6),
                _stream(
                    "instruct", 3, 141.0, of={"self-instruct": 1.0, "user-oriented": 1.0, "t0": 1.0}
                ),
            ),
            heldout_sequences=32,
        ),
        train=TrainConfig(
            steps=200,
            warmup_steps=20,
            learning_rate=2e-3,
            vision="all",
            checkpoint_every=20,
            keep_checkpoints=1,
            heldout_every=50,
        ),
    )


def _stream(
    name: str,
    sequences: int,
    tokens: float,
    *,
    images: float = 0.0,
    packing: Literal["single", "full-sentence"] = "single",
    of: Mapping[str, float] | None = None,
) -> Stream:
    """A stream of the folder of its name, or of corpora with weights."""
    is_packed = packing == "full-sentence"
    return Stream(
        name=name,
        path="" if of else f"corpora/{name}/train",
        heldout_path="" if of else f"corpora/{name}/heldout",
        corpora=tuple(
            Corpus(
                name=part,
                path=f"corpora/{part}/train",
                heldout_path=f"corpora/{part}/heldout",
                weight=weight,
            )
            for part, weight in (of or {}).items()
        ),
        sequences_per_step=sequences,
        tokens_per_sequence=tokens,
        images_per_sequence=images,
        packing=packing,
        max_tokens=round(tokens) if is_packed else 2048,
        line_tokens=is_packed,
        # its rows are short, and 4.5% of the tokens of wikipedia are ends of longer paragraphs
        long_lines="carry" if is_packed else "cut",
    )
