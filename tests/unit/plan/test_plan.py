"""kosmos.plan.plan and kosmos.plan.measure."""

import subprocess
import sys
from pathlib import Path

import pytest

from kosmos.config import replace
from kosmos.data.loader import Loader
from kosmos.errors import ConfigError, DataError
from kosmos.model.cost import training_flops
from kosmos.plan.measure import indices_of, measured_lengths
from kosmos.plan.plan import plan
from kosmos.plan.shapes import Lengths
from kosmos.recipes.kosmos1 import kosmos1
from kosmos.recipes.kosmos2 import kosmos2
from kosmos.text.tokenizer import Tokenizer
from kosmos.train.config import Run


def test_kosmos1_adds_up_to_what_the_paper_states() -> None:
    # section 3.2: 1.2M tokens = 0.5M text + 0.5M captions + 0.2M interleaved; 360B in all
    result = plan(kosmos1())
    tokens = {stream.name: stream.tokens_per_step for stream in result.streams}
    assert tokens == {
        "text": pytest.approx(5e5),
        "captions": pytest.approx(5e5),
        "interleaved": pytest.approx(2e5),
    }
    assert result.tokens_per_step == pytest.approx(result.stated_tokens_per_step)
    assert result.total_tokens == pytest.approx(result.stated_total_tokens)


def test_kosmos2_adds_up_to_what_the_paper_states() -> None:
    # Table 7 and section 3.3: 419K tokens a step, "about 25B" in 60k steps
    result = plan(kosmos2())
    assert result.tokens_per_step == pytest.approx(419_000)
    assert result.total_tokens == pytest.approx(result.stated_total_tokens, rel=0.01)
    assert sum(stream.share for stream in result.streams) == pytest.approx(1.0)
    assert result.num_parameters == sum(result.parameters.values())


def test_operations_and_time_scale_with_the_steps(run: Run) -> None:
    one, ten = (plan(replace(run, {"train.steps": steps})) for steps in (2, 20))
    assert one.flops_per_step == ten.flops_per_step
    assert ten.total_flops == pytest.approx(10 * one.total_flops)
    assert ten.time_s(1e6) == pytest.approx(ten.total_flops / 1e6)


def test_operations_of_a_stream_are_those_of_its_rows(run: Run) -> None:
    (text, *_) = run.data.streams
    result = plan(replace(run, {"streams": (text,)}))
    expected = training_flops(run.model, tokens=30, batch=2, loss_tokens=60)
    assert result.flops_per_step == expected


def test_memory_is_that_of_the_largest_micro_batch(run: Run) -> None:
    small = plan(replace(run, {"data.micro_batch_tokens": 32})).memory
    large = plan(run).memory
    assert small.activations < large.activations
    assert (small.weights, small.optimizer) == (large.weights, large.optimizer)


def test_measured_lengths_replace_the_stated_ones(
    run: Run, tokenizer: Tokenizer, cache_folder: Path
) -> None:
    loader = Loader(
        replace(run.data, {"micro_batch_tokens": 128}),
        tokenizer,
        seed=run.seed,
        cache_folder=cache_folder,
    )
    result = plan(run, measured_lengths(indices_of(run, cache_folder)))
    assert all(stream.is_measured for stream in result.streams)
    # an epoch of captions, 30 documents of 4 a step, holds what the plan says on average
    steps = [loader.step(step) for step in range(15)]
    tokens = sum(b.num_tokens for step in steps for b in step if b.stream == "captions") / 15
    images = sum(len(b.pixels) for s in steps for b in s if b.stream == "pages") / 15  # type: ignore[arg-type]
    captions, pages = result.streams[1:]
    assert tokens == pytest.approx(captions.tokens_per_step)
    assert images == pytest.approx(pages.images_per_step, rel=0.5)


def test_some_streams_may_be_measured_and_others_stated(run: Run) -> None:
    result = plan(run, {"text": Lengths(tokens=10.0, images=0.0)})
    assert [stream.is_measured for stream in result.streams] == [True, False, False]
    assert result.streams[0].tokens_per_step == 20.0


def test_without_any_index_measuring_is_an_error(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the index of one of the run's streams"):
        indices_of(run, tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("train.warmup_steps", 7, "train.warmup_steps: expected at most train.steps=6, found 7"),
        ("image.size", 32, "image.size: expected model.vision.image_size=28, found 32"),
        ("layout.num_image_tokens", 5, "expected model.connector.num_queries=4, found 5"),
        ("streams.text.max_tokens", 300, "at most model.decoder.max_tokens=256, found 300"),
    ],
)
def test_parts_that_do_not_fit_are_named(run: Run, name: str, value: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        plan(replace(run, {name: value}))


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys; from kosmos.plan.plan import plan;"
        "from kosmos.recipes.kosmos1 import kosmos1;"
        "plan(kosmos1()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
