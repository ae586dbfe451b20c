"""lm-evaluation-harness around the language model of the peer."""

import os
from collections.abc import Sequence
from typing import Any

from benchmarks.harness.peer import Peer
from kosmos.runtime import require


class LmEvalTwin:
    """Its ``HFLM`` with the peer's text model, asked for log-likelihoods directly.

    The tokenizer puts ``<s>`` before a text and nothing behind it, as the model was trained.

    Args:
        peer: Whose text model it is.
        batch_size: Rows it reads at once.
    """

    def __init__(self, peer: Peer, *, batch_size: int) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        kind = require("lm_eval.models.huggingface", extra="bench").HFLM
        self._request: Any = require("lm_eval.api.instance", extra="bench").Instance
        processors = require("tokenizers.processors", extra="bench")
        tokenizer = peer.processor.tokenizer
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
        self._model: Any = kind(
            pretrained=peer.model.text_model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=batch_size,
            max_length=peer.model.config.text_config.max_position_embeddings,
            add_bos_token=True,
            device=peer.device,
        )

    def scores(self, rows: Sequence[tuple[str, Sequence[str]]]) -> list[float]:
        """Log-probability of each ending behind its context, row by row."""
        pairs = [(context, ending) for context, endings in rows for ending in endings]
        requests = [
            self._request(request_type="loglikelihood", doc={}, arguments=pair, idx=index)
            for index, pair in enumerate(pairs)
        ]
        return [found[0] for found in self._model.loglikelihood(requests, disable_tqdm=True)]
