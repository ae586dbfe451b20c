"""The model that both sides load: random weights, written once as a Hugging Face folder.

- :data:`SIZES`: ``full`` is the released model, ``medium`` a fifth of it, ``small`` what a CPU
  trains, ``tiny`` for tests
- :func:`model_folder`: the folder, made if it is not there
- :func:`stand_in_tokenizer`: a tokenizer with as many pieces as the released one, from no data
- :func:`only_one`, :func:`check_memory`: two full-size runs at once would measure each other

Weights follow from the seed alone. The decoder's last norm gets random signs: with the tied head,
a fresh model answers every token with itself.
"""

import fcntl
import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.harness.inputs import sentences
from benchmarks.harness.machine import free_memory_bytes
from kosmos.document.layout import INFERENCE
from kosmos.errors import ConfigError
from kosmos.image.config import ImageConfig
from kosmos.model.config import (
    CLIP_VIT_L14,
    KOSMOS2_VOCAB_SIZE,
    PRESETS,
    ConnectorConfig,
    DecoderConfig,
    ModelConfig,
    VisionConfig,
    with_vocabulary,
)
from kosmos.model.cost import count_parameters
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.runtime import generator
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import train_tokenizer
from kosmos.weights.huggingface import export_huggingface
from kosmos.weights.loaded import LoadedModel

NUM_PIECES = 64_000
TINY_PIECES = 300
_TRAINED_PIECES = 250
_FILLER_SCORE = -1e4  # no text is cheaper to spell with them

_MEDIUM = ModelConfig(
    decoder=DecoderConfig(
        vocab_size=KOSMOS2_VOCAB_SIZE, width=1024, num_layers=12, num_heads=16, ffn_width=4096
    ),
    vision=replace(CLIP_VIT_L14, width=768, num_layers=12, num_heads=12, ffn_width=3072),
    connector=ConnectorConfig(num_heads=16, width=1024),
)
_SMALL = ModelConfig(
    decoder=DecoderConfig(
        vocab_size=KOSMOS2_VOCAB_SIZE, width=512, num_layers=8, num_heads=8, ffn_width=2048
    ),
    vision=replace(CLIP_VIT_L14, width=256, num_layers=4, num_heads=4, ffn_width=1024),
    connector=ConnectorConfig(num_heads=8, width=512),
)
_TINY = ModelConfig(
    decoder=DecoderConfig(vocab_size=2048, width=64, num_layers=2, num_heads=4, ffn_width=128),
    vision=VisionConfig(
        image_size=56, patch_size=14, width=48, num_layers=2, num_heads=3, ffn_width=96
    ),
    connector=ConnectorConfig(num_queries=8, num_heads=4, width=64),
)
SIZES: dict[str, ModelConfig] = {
    "full": PRESETS["kosmos2-released"],
    "medium": _MEDIUM,
    "small": _SMALL,
    "tiny": _TINY,
}


def model_folder(size: str, work: Path, *, tokenizer: Path | None, seed: int) -> Path:
    """A Hugging Face folder with random weights; made if no earlier run has left it.

    Args:
        size: A key of :data:`SIZES`.
        work: Where folders are kept.
        tokenizer: A SentencePiece model; None for a stand-in. ``tiny`` always has a stand-in.
        seed: What the weights follow from.
    """
    if tokenizer is None or size == "tiny":
        chosen = stand_in_tokenizer(TINY_PIECES if size == "tiny" else NUM_PIECES)
    else:
        chosen = Tokenizer.load(tokenizer)
    config = with_vocabulary(SIZES[size], chosen.vocabulary.size)
    # whatever the folder follows from is in its name, so that a changed size is made anew
    made_of = hashlib.sha256(f"{config} {chosen.digest} {seed}".encode()).hexdigest()[:12]
    folder = work / "models" / f"{size}-{made_of}"
    if folder.is_dir():
        return folder
    assert config.vision is not None
    assert config.connector is not None
    model = Kosmos(config)
    initialize(model, seed)
    signs = generator(seed, "signs").integers(0, 2, config.decoder.width) * 2 - 1
    with torch.no_grad():
        model.decoder.norm.weight.mul_(torch.from_numpy(signs))
    loaded = LoadedModel(
        model=model.eval(),
        tokenizer=chosen,
        image=ImageConfig(size=config.vision.image_size),
        layout=replace(INFERENCE, num_image_tokens=config.connector.num_queries),
    )
    export_huggingface(loaded, folder)
    return folder


def stand_in_tokenizer(num_pieces: int) -> Tokenizer:
    """A tokenizer trained on the microcosm and filled up with pieces that nothing is spelled with.

    Its vocabulary has the size of the released one, so that embedding and output head have their
    true cost.
    """
    trained = train_tokenizer(sentences(2000, seed=1), num_pieces=_TRAINED_PIECES)
    fillers = b"".join(
        _piece(f"\u2581\u2581{index:x}\u2581", _FILLER_SCORE)
        for index in range(num_pieces - _TRAINED_PIECES)
    )
    # a protocol buffer behind another adds to its lists
    return Tokenizer.from_bytes(trained + fillers, num_pieces=num_pieces)


def _piece(text: str, score: float) -> bytes:
    """One entry of the list of pieces, as kosmos.text.sentencepiece_model describes it."""
    words = text.encode()
    body = b"\x0a" + bytes([len(words)]) + words + b"\x15" + struct.pack("<f", score)
    return b"\x0a" + bytes([len(body)]) + body


@contextmanager
def only_one(size: str) -> Iterator[None]:
    """Hold the machine's lock of full-size runs.

    Raises:
        ConfigError: If another process holds it.
    """
    if size != "full":
        yield
        return
    path = Path(tempfile.gettempdir()) / "openkosmos-benchmark.lock"
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise ConfigError(
                f"benchmark: expected to be the only full-size one, found process {file.read()}",
                hint="two at once would measure each other; wait for it, or use --size medium",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def check_memory(size: str, copies: float) -> None:
    """Refuse to start what would end in swapping.

    Args:
        size: A key of :data:`SIZES`.
        copies: How many times the float32 weights are in memory.

    Raises:
        ConfigError: If less is free.
    """
    if size == "tiny":
        return
    needed = int(count_parameters(SIZES[size]) * 4 * copies) + 2 * 10**9
    free = free_memory_bytes()
    if free is not None and free < needed:
        raise ConfigError(
            f"benchmark: expected {needed / 1e9:.1f} GB of free memory for --size {size}, "
            f"found {free / 1e9:.1f} GB",
            hint="end what else runs, or use --size medium",
        )
