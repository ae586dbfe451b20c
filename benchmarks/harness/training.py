"""One optimizer step on either side, from the same weights and with the same settings.

- :class:`Ours`: our objective, our step, our optimizer
- :class:`Theirs`: Hugging Face's model, its own loss, and AdamW as its Trainer sets it up

Dropout is off on both sides, so that their losses can be compared; the fused optimizer is on in
both, as it is the Trainer's default.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks.harness.measure import DisagreementError
from kosmos.data.batch import Batch
from kosmos.model.config import ModelConfig
from kosmos.model.kosmos import Kosmos
from kosmos.train.config import TrainConfig
from kosmos.train.optimizer import make_optimizer
from kosmos.train.step import NextToken, StepResult, training_step
from kosmos.weights.folder import load_model

CONFIG = TrainConfig(steps=1, warmup_steps=0, learning_rate=1e-5, vision="all")
LOSS_TOLERANCE = 1e-5
"""Relative difference of the two losses, and of two gradient norms, of float32 sums in another
order; measured 4e-7 (tiny) and 2e-7 (small)."""


class Ours:
    """Our way to train.

    Args:
        folder: Weights, as the peer loads them.
        vision: Whether pictures are read; without, the vision tower is not there.
    """

    def __init__(self, folder: Path, *, vision: bool) -> None:
        stored = load_model(folder).model
        config = stored.config
        if not vision:
            config = ModelConfig(decoder=config.decoder)
        model = Kosmos(config)
        names = model.state_dict().keys()
        kept = {name: tensor for name, tensor in stored.state_dict().items() if name in names}
        model.load_state_dict(kept)
        self.objective = NextToken(model.eval())
        self.optimizer = make_optimizer(model, CONFIG)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All of them; all learn."""
        return list(self.objective.module.parameters())

    def step(self, batches: Sequence[Batch]) -> StepResult:
        """Move the weights once."""
        return training_step(
            self.objective,
            self.optimizer,
            batches,
            learning_rate=CONFIG.learning_rate,
            clip_norm=CONFIG.clip_norm,
            seed=0,
            step=1,
        )


class Theirs:
    """The peer's way to train.

    Args:
        folder: Weights.
        vision: Whether pictures are read.
    """

    def __init__(self, folder: Path, *, vision: bool) -> None:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        kind = transformers.Kosmos2ForConditionalGeneration
        whole: Any = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        self.num_loaded = sum(parameter.numel() for parameter in whole.parameters())
        self._with_pictures, self._without = whole.eval(), whole.text_model
        trained = whole if vision else whole.text_model
        self.parameters: list[nn.Parameter] = list(trained.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=CONFIG.learning_rate,
            betas=CONFIG.betas,
            eps=CONFIG.eps,
            weight_decay=CONFIG.weight_decay,
            fused=True,
        )

    def step(self, batches: Sequence[dict[str, Tensor]], num_targets: int) -> tuple[float, float]:
        """Move the weights once.

        Args:
            batches: Arguments of the model, labels among them.
            num_targets: Labels of all batches that count.

        Returns:
            Mean loss, and the norm of the gradient before clipping.
        """
        total = 0.0
        for batch in batches:
            # the whole model refuses words alone
            model = self._with_pictures if "pixel_values" in batch else self._without
            loss = model(**batch, num_items_in_batch=num_targets, use_cache=False).loss
            loss.backward()
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, CONFIG.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total, float(norm)


def same_steps(
    ours: Callable[[], StepResult], theirs: Callable[[], tuple[float, float]], steps: int = 2
) -> dict[str, object]:
    """Take steps on both sides and compare losses and gradients.

    Returns:
        Facts for the record.

    Raises:
        DisagreementError: If they differ by more than rounding.
    """
    largest = 0.0
    for number in range(steps):
        result, (loss, norm) = ours(), theirs()
        pairs = {"loss": (result.loss, loss), "gradient norm": (result.grad_norm, norm)}
        for what, (one, other) in pairs.items():
            difference = abs(one - other) / other
            if not difference <= LOSS_TOLERANCE * (1 + 9 * number):  # weights have parted a little
                raise DisagreementError(
                    f"step {number}, {what}: expected {other!r} as the peer, found {one!r}"
                )
            largest = max(largest, difference)
    return {"steps compared": steps, "largest difference of losses, relative": largest}
