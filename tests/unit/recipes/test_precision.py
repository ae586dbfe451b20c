"""Every recipe of the papers trains in bfloat16, its model made small."""

from dataclasses import replace as replace_fields
from pathlib import Path

import pytest

from kosmos.config import replace
from kosmos.files import read_jsonl
from kosmos.model.config import ModelConfig
from kosmos.recipes.table import make_run
from kosmos.train.config import Run
from kosmos.train.trainer import train
from tests import tiny_run


def shrunken(model: ModelConfig, vocab_size: int) -> ModelConfig:
    """The same kinds of parts, small."""
    assert model.vision is not None
    assert model.connector is not None
    sizes = {"width": 32, "num_layers": 2, "num_heads": 2, "ffn_width": 64}
    return ModelConfig(
        decoder=replace_fields(model.decoder, vocab_size=vocab_size, max_tokens=256, **sizes),
        vision=replace_fields(model.vision, image_size=28, **sizes),
        connector=replace_fields(model.connector, num_queries=4, width=32, num_heads=2),
    )


def small(run: Run, tiny: Run, *, precision: str) -> Run:
    """The recipe's model, streams and rates on tiny data."""
    paths = {stream.name: stream.path for stream in tiny.data.streams}
    homes = {"text": "text", "captions": "captions", "grounded": "captions", "interleaved": "pages"}
    streams = tuple(
        replace_fields(
            stream,
            corpora=(),
            path=paths[homes[stream.name]],
            sequences_per_step=2,
            max_tokens=128,
        )
        for stream in run.data.streams
    )
    data = replace_fields(
        tiny.data, streams=streams, layout=replace_fields(run.data.layout, num_image_tokens=4)
    )
    fields = {
        "model": shrunken(run.model, tiny.model.decoder.vocab_size),
        "data": data,
        "train.steps": 2,
        "train.fresh": True,
        "train.warmup_steps": 1,
        "train.vision": "all",  # nothing is loaded into the tower
        "train.precision": precision,
    }
    return replace(run, fields)


@pytest.mark.parametrize("recipe", ["kosmos1", "kosmos2", "kosmos2-released"])
def test_the_papers_recipes_train_in_bfloat16(recipe: str, tmp_path: Path) -> None:
    tiny = tiny_run.make_run(tmp_path)
    losses = {}
    for precision in ("float32", "bfloat16"):
        run = small(make_run(recipe), tiny, precision=precision)
        train(run, out=tmp_path / precision, cache_folder=tmp_path / "index")
        rows = read_jsonl(tmp_path / precision / "metrics.jsonl")
        losses[precision] = [row["loss"] for row in rows if isinstance(row, dict)]
    assert len(losses["float32"]) == 2
    # relative, of losses of 5: 3 times the worst
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=2e-3)
    assert losses["bfloat16"] != pytest.approx(losses["float32"], rel=1e-6)
