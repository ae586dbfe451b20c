"""How fast the work could be done at all: operations and bytes over the rates of the machine.

A limit assumes that nothing is done twice and nothing waits: pictures once, shared words once, one
pass over the weights for each step. It is a floor that is never reached.
"""

from benchmarks.harness.machine import Calibration
from kosmos.model.config import ModelConfig
from kosmos.model.cost import forward_flops, parameter_table


def decoder_weights(config: ModelConfig) -> int:
    """Weights that a decoding step reads: the decoder, and the embedding as the output head."""
    table = parameter_table(config)
    return sum(count for name, count in table.items() if name.startswith("decoder."))


def read_s(
    config: ModelConfig,
    rates: Calibration,
    *,
    tokens: int,
    batch: int = 1,
    images: int = 0,
    past: int = 0,
    head_tokens: int | None = None,
    weight_bytes: float = 4,
) -> float:
    """Least seconds to read prompts: their operations, or one pass over the weights.

    Args:
        config: The model.
        rates: Of the machine.
        tokens: New tokens of each row, image slots included.
        batch: Rows.
        images: Images encoded, in all rows together.
        past: Tokens before them.
        head_tokens: Positions whose next token is asked for; None: the last of each row.
        weight_bytes: Bytes of a weight.
    """
    flops = forward_flops(
        config,
        tokens=tokens,
        batch=batch,
        images=images,
        past=past,
        head_tokens=batch if head_tokens is None else head_tokens,
    )
    return max(
        flops / rates.flops_per_s, decoder_weights(config) * weight_bytes / rates.bytes_per_s
    )


def decode_s(
    config: ModelConfig,
    rates: Calibration,
    *,
    steps: int,
    rows: int = 1,
    past: int = 0,
    weight_bytes: float = 4,
) -> float:
    """Least seconds of decoding steps: each reads all weights, keys and values once.

    Args:
        config: The model.
        rates: Of the machine.
        steps: Tokens of each row.
        rows: Rows decoded together.
        past: Tokens before the first of them, in each row.
        weight_bytes: Bytes of a weight.
    """
    decoder = config.decoder
    kept = 2 * decoder.num_layers * decoder.width * 4 * rows * (past + steps / 2)
    a_read = (decoder_weights(config) * weight_bytes + kept) / rates.bytes_per_s
    flops = forward_flops(config, tokens=1, batch=rows, past=past + steps // 2)
    return steps * max(a_read, flops / rates.flops_per_s)
