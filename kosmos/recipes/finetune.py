"""Fine-tuning: a finished model on a user's own captions, questions or boxes.

What differs between them is in the documents: of a question and its answer only the answer carries
loss, and a caption with boxes is written with them.
"""

from kosmos.config import replace
from kosmos.data.config import DataConfig, Stream
from kosmos.document.layout import TRAINING, AnswerConfig
from kosmos.image.config import ImageConfig
from kosmos.model.config import PRESETS
from kosmos.model.lora import LoraConfig
from kosmos.train.config import Run, TrainConfig


def finetune() -> Run:
    """Fine-tuning of all weights but the vision tower's, on one's own data.

    Source: ours; docs/guides/finetune.md shows it from photos to captions.
    Command: kosmos train finetune --out DIR --set train.start_from=MODEL
        --set streams.data.path=mine/train --set streams.data.heldout_path=mine/heldout
    Hardware and time: `kosmos plan finetune` says, for the released checkpoint too.
    Should reach: a held-out loss below that before the first step, which is measured first.

    Model, tokenizer and preprocessing of pictures are those of MODEL, and so is how the model that
    is left is asked. Targets are laid out as the release trained. The model that is left is that
    of the lowest held-out loss: small data is soon known by heart.
    """
    return Run(
        name="finetune",
        source="",
        # shown and planned with until there is a folder to take it from: the released checkpoint
        model=PRESETS["kosmos2-released"],
        data=DataConfig(
            image=ImageConfig(geometry="square"),
            layout=TRAINING,
            num_cells=32,
            streams=(
                Stream(
                    name="data",
                    path="",
                    sequences_per_step=16,
                    tokens_per_sequence=100.0,
                    images_per_sequence=1.0,
                ),
            ),
            micro_batch_tokens=2048,
        ),
        answers=AnswerConfig(),
        parts="start",
        train=TrainConfig(
            steps=500,
            warmup_steps=25,
            learning_rate=1e-5,
            vision="frozen",
            checkpoint_every=100,
            keep_checkpoints=1,
            heldout_every=50,
            keep_best=True,
        ),
    )


def finetune_lora() -> Run:
    """Fine-tuning of an adapter beside frozen weights (LoRA), on one's own data.

    Source: ours, after arXiv:2106.09685; docs/guides/finetune.md shows it from photos to captions.
    Command: kosmos train finetune-lora --out DIR --set train.start_from=MODEL
        --set streams.data.path=mine/train --set streams.data.heldout_path=mine/heldout
    Hardware and time: `kosmos plan finetune-lora` says, for the released checkpoint too.
    Should reach: a held-out loss below that before the first step, which is measured first.

    The rate is that of small matrices that begin at zero, twenty times that of the weights.
    """
    return replace(
        finetune(),
        {"name": "finetune-lora", "train.adapter": LoraConfig(), "train.learning_rate": 2e-4},
    )
