"""The recipes by name, and how a name or a file becomes a Run."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

from kosmos import config
from kosmos.errors import ConfigError
from kosmos.files import read_json
from kosmos.findings import raise_first_error
from kosmos.recipes import baseline, finetune, instruct, kosmos1, kosmos2, microcosm, trial
from kosmos.train.config import Run, run_rules

RECIPES: dict[str, Callable[[], Run]] = {
    "kosmos1": kosmos1.kosmos1,
    "kosmos1-instruct": instruct.kosmos1_instruct,
    "kosmos1-baseline": baseline.kosmos1_baseline,
    "kosmos2": kosmos2.kosmos2,
    "kosmos2-instruct": instruct.kosmos2_instruct,
    "kosmos2-baseline": baseline.kosmos2_baseline,
    "kosmos2-released": kosmos2.kosmos2_released,
    "microcosm-vision": microcosm.microcosm_vision,
    "microcosm": microcosm.microcosm,
    "microcosm-instruct": microcosm.microcosm_instruct,
    "microcosm-baseline": microcosm.microcosm_baseline,
    "finetune": finetune.finetune,
    "finetune-lora": finetune.finetune_lora,
    "trial": trial.trial,
}
# what an issue or a paper calls them
ALIASES = {"instruct": "kosmos1-instruct", "baseline": "kosmos1-baseline"}


def make_run(recipe: str, assignments: Sequence[str] = (), *, is_checked: bool = True) -> Run:
    """A recipe by name, or a run.json by path, with ``name=value`` changes applied in order.

    A recipe of ``parts="start"`` takes those parts from the folder in ``train.start_from``, and the
    changes are applied to what it has then; a run.json has them already.

    Args:
        recipe: Name or path.
        assignments: The changes.
        is_checked: Whether parts that do not fit each other are an error here; False: the caller
            asks the rules itself.

    Raises:
        ConfigError: If there is no such recipe or file, or a change is refused.
        CheckpointError: If the folder to take parts from is no model folder.
    """
    name = ALIASES.get(recipe, recipe)
    if name in RECIPES:
        run = _taking_parts(RECIPES[name](), assignments)
    elif recipe.endswith(".json") or Path(recipe).is_file():
        if not Path(recipe).is_file():
            raise ConfigError(f"{recipe}: expected a run file, found nothing there")
        record = read_json(Path(recipe))
        # a run folder's record holds facts beside the run; both forms are accepted
        if isinstance(record, dict) and "run" in record:
            record = record["run"]
        run = config.from_json(Run, record, where=recipe)
    else:
        near = difflib.get_close_matches(recipe, [*RECIPES, *ALIASES], n=1)
        raise ConfigError(
            f"expected a recipe or the path of a run.json, found {recipe!r}",
            hint=f"did you mean {near[0]!r}?" if near else "kosmos recipe list",
        )
    run = _changed(run, assignments)
    if is_checked:  # only now: settings that depend on each other may come in any order
        raise_first_error(run_rules(run))
    return run


def _changed(run: Run, assignments: Sequence[str]) -> Run:
    for assignment in assignments:
        run = config.override(run, assignment)
    return run


def _taking_parts(run: Run, assignments: Sequence[str]) -> Run:
    """The run with the parts of the folder that the changes let it start from, if it takes any."""
    changed = _changed(run, assignments)
    if changed.parts == "stated" or not changed.train.start_from:
        return run
    # imports torch, which no other recipe waits for
    from kosmos.train.start import with_parts_of_start

    return with_parts_of_start(config.replace(run, {"train.start_from": changed.train.start_from}))
