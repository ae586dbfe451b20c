"""The peer: Hugging Face's Kosmos-2 used as well as its users can.

Inference mode, the key-value cache, scaled-dot-product attention (its default), batches padded on
the left with a mask, and no ``</s>`` before the length that both sides generate.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch
import transformers
from torch import Tensor


class Peer:
    """Model and processor of a folder.

    Args:
        folder: A Hugging Face Kosmos-2.
        device: Where the model goes.
        dtype: Type of its weights.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", dtype: str = "float32") -> None:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        kind = transformers.Kosmos2ForConditionalGeneration
        start = time.perf_counter()
        self.model: Any = kind.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True
        )
        self.model_s = time.perf_counter() - start
        self.model.eval().to(device)
        self.processor: Any = transformers.AutoProcessor.from_pretrained(
            folder, local_files_only=True
        )
        self.processor.tokenizer.padding_side = "left"
        self.num_slots: int = self.model.config.latent_query_num
        self.device = device
        self.dtype = getattr(torch, dtype)

    def inputs(self, photos: Sequence[Path], texts: Sequence[str]) -> dict[str, Tensor]:
        """A batch of prompts, a photograph before each text."""
        pictures = [PIL.Image.open(photo) for photo in photos]
        made = self.processor(
            text=list(texts),
            images=pictures,
            padding=True,
            return_tensors="pt",
            num_image_tokens=self.num_slots,
        )
        names = ("pixel_values", "input_ids", "attention_mask", "image_embeds_position_mask")
        moved = {name: made[name].to(self.device) for name in names}
        moved["pixel_values"] = moved["pixel_values"].to(self.dtype)
        return moved

    @torch.inference_mode()
    def generate(
        self, inputs: dict[str, Tensor], *, num_tokens: int, stop: bool = False, **options: object
    ) -> Any:  # noqa: ANN401
        """New token ids of each row, or what ``return_dict_in_generate`` asks for.

        Args:
            inputs: Of :meth:`inputs`, or ``input_ids`` alone for words without a picture.
            num_tokens: Of each reply.
            stop: Whether ``</s>`` may end one earlier.
            options: Further ones of ``generate``.
        """
        seen = "pixel_values" in inputs
        model = self.model if seen else self.model.text_model
        given = dict(inputs)
        given.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of defaults that it has itself
            found = model.generate(
                **given,
                use_cache=True,
                do_sample=False,
                max_new_tokens=num_tokens,
                min_new_tokens=None if stop else num_tokens,
                **options,
            )
        if not isinstance(found, Tensor):
            return found
        return found[:, inputs["input_ids"].shape[1] :].tolist()

    @torch.inference_mode()
    def logits(self, inputs: dict[str, Tensor], last: int = 1) -> Tensor:
        """Scores of the last positions only, which the caller has to ask for."""
        found: Tensor = self.model(**inputs, logits_to_keep=last).logits
        return found

    def captions_and_boxes(self, rows: Sequence[Sequence[int]]) -> list[tuple[str, list[Any]]]:
        """Clean texts and entities of generated ids."""
        decode: Callable[..., list[str]] = self.processor.batch_decode
        return [
            self.processor.post_process_generation(text)
            for text in decode(rows, skip_special_tokens=True)
        ]
