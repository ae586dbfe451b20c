"""The trial's parts fit each other and hold every kind of data."""

from kosmos.findings import raise_first_error
from kosmos.plan.plan import plan
from kosmos.recipes.table import make_run
from kosmos.text.vocabulary import Vocabulary
from kosmos.train.config import run_rules


def test_the_trial_fits_the_released_tokenizer() -> None:
    run = make_run("trial")
    raise_first_error(
        run_rules(
            run, vocabulary_size=Vocabulary(num_pieces=64_000, num_cells=run.data.num_cells).size
        )
    )


def test_every_stream_of_the_trial_is_measured_on_data_of_its_own() -> None:
    sources = [corpus for stream in make_run("trial").data.streams for corpus in stream.sources]
    folders = [folder for corpus in sources for folder in (corpus.path, corpus.heldout_path)]
    assert all(folders)
    assert len({*folders}) == 2 * len(sources)


def test_the_trial_is_small_enough_for_two_cores() -> None:
    found = plan(make_run("trial"))
    assert found.num_parameters < 25e6
    # ten minutes at the rate of an ordinary pair of cores
    assert found.time_s(100e9) < 600
