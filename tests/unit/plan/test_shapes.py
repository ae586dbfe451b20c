"""kosmos.plan.shapes and kosmos.plan.measure, against the loader."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kosmos.config import replace
from kosmos.data.batch import Batch
from kosmos.data.loader import Loader
from kosmos.model.kosmos import Kosmos
from kosmos.plan import measure
from kosmos.plan.measure import indices_of, measured_shapes
from kosmos.plan.plan import plan, shape_flops
from kosmos.plan.shapes import Lengths, Shape, stated_shapes
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run
from kosmos.train.step import NextToken


def shape_of(batch: Batch) -> Shape:
    rows, tokens = batch.token_ids.shape
    owners = batch.documents[:, 1:]
    alone = [np.sum(owners[row] >= 0) for row in range(rows)]
    if batch.segments is not None:
        alone = [n for row in batch.segments for n in np.bincount(row[row >= 0])]
    return Shape(
        rows=rows,
        tokens=tokens,
        real_tokens=batch.num_tokens,
        pairs=sum(int(n) ** 2 for n in alone),
        loss_tokens=int((batch.loss_weights > 0).sum()),
        images=0 if batch.pixels is None else len(batch.pixels),
    )


def test_shapes_of_the_indices_are_those_of_the_batches(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    cut = replace(run, {"data.micro_batch_tokens": 100, "data.skip_steps": ("3",)})
    loader = Loader(
        cut.data,
        tokenizer,
        seed=cut.seed,
        cache_folder=cache_folder,
    )
    shapes = measured_shapes(cut, indices_of(cut, cache_folder))
    assert shapes is not None
    assert cut.train.steps < measure.NUM_STEPS  # so that every step is looked at
    objective = NextToken(Kosmos(cut.model), cut.train)
    flops = []
    for step in range(cut.train.steps):
        batches = loader.step(step)
        for stream in cut.data.streams:
            expected = [shape_of(batch) for batch in batches if batch.stream == stream.name]
            assert shapes[stream.name][step] == expected
        flops.append(sum(objective.flops(batch) for batch in batches))
        found = [shape_flops(cut, shape) for steps in shapes.values() for shape in steps[step]]
        assert sum(found) == flops[-1]
    result = plan(cut, shapes=shapes)
    assert result.flops_per_step == round(np.mean(flops))
    captions = result.streams[1]
    assert captions.padding is not None
    assert 0.0 < captions.padding < 0.5
    assert captions.micro_batches_per_step > 1.0


def test_without_all_indices_there_are_no_shapes(run: Run, cache_folder: Path) -> None:
    indices = indices_of(run, cache_folder)
    del indices["pages"]
    assert measured_shapes(run, indices) is None
    assert plan(run).streams[0].padding is None


@given(
    tokens=st.floats(1.0, 300.0),
    images=st.floats(0.0, 4.0),
    sequences=st.integers(1, 200),
    limit=st.integers(1, 2000),
)
def test_stated_shapes_hold_every_row_and_picture_and_keep_the_limit(
    run: Run, tokens: float, images: float, sequences: int, limit: int
) -> None:
    (text, *_) = run.data.streams
    text = replace(text, {"sequences_per_step": sequences})
    one = replace(run, {"streams": (text,), "data.micro_batch_tokens": limit})
    ((shapes,),) = stated_shapes(one, {"text": Lengths(tokens=tokens, images=images)}).values()
    assert sum(shape.rows for shape in shapes) == sequences
    assert sum(shape.images for shape in shapes) == round(sequences * images)
    assert all(shape.positions <= limit or shape.rows == 1 for shape in shapes)
    assert all(shape.positions == shape.real_tokens for shape in shapes)
