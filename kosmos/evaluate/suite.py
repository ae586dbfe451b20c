"""The tasks `kosmos evaluate` knows: a table."""

import difflib

from kosmos.errors import ConfigError
from kosmos.evaluate.task import Task
from kosmos.evaluate.tasks.captioning import Captioning
from kosmos.evaluate.tasks.knowledge import ColorKnowledge, SizeKnowledge
from kosmos.evaluate.tasks.referring import Referring
from kosmos.evaluate.tasks.vqa import VisualQuestions

TASKS: dict[str, Task] = {
    "captioning": Captioning(),
    "vqa": VisualQuestions(),
    "referring": Referring(),
    "color-knowledge": ColorKnowledge(),
    "size-knowledge": SizeKnowledge(),
}


def choose(names: str) -> list[Task]:
    """The tasks of a list with commas; ``all`` for every one.

    Raises:
        ConfigError: If a name is unknown, with the nearest.
    """
    if names == "all":
        return list(TASKS.values())
    chosen = []
    for name in (part.strip() for part in names.split(",") if part.strip()):
        if name not in TASKS:
            near = difflib.get_close_matches(name, TASKS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else None
            raise ConfigError(
                f"tasks: expected one of {', '.join(TASKS)}, found {name!r}", hint=hint
            )
        chosen.append(TASKS[name])
    if not chosen:
        raise ConfigError(f"tasks: expected one of {', '.join(TASKS)}, found none")
    return chosen
