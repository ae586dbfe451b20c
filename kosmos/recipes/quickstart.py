"""Quickstart: every stage of the project in miniature, as one config.

The stages meet in folders below one root::

    microcosm/   world -> shards -> tokenizer.model      instruct/   tuned with instructions
    vision/      a tower that sees                       model/      the tuned model, ready to use
    pretrain/    all streams together                    evaluate/   results and the report
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from kosmos.errors import ConfigError
from kosmos.microcosm.config import MicrocosmConfig
from kosmos.model.config import with_vocabulary
from kosmos.recipes import microcosm
from kosmos.text.vocabulary import Vocabulary
from kosmos.train.config import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Quickstart:
    """What `kosmos quickstart` does; `--set` changes any of it."""

    world: MicrocosmConfig = field(
        default_factory=lambda: MicrocosmConfig(num_scenes=30_000, num_cells=microcosm.NUM_CELLS)
    )
    """The world and how many pictures of it are drawn."""
    num_pieces: int = microcosm.NUM_PIECES
    """Pieces of the tokenizer."""
    vision: Run = field(default_factory=microcosm.microcosm_vision)
    """The stage that makes the vision tower."""
    pretrain: Run = field(default_factory=microcosm.microcosm)
    """The stage on all streams."""
    instruct: Run = field(default_factory=microcosm.microcosm_instruct)
    """The stage on instructions."""
    num_examples: int = 500
    """Examples of each evaluation task, at most."""

    def runs(self, root: Path) -> dict[str, Run]:
        """The training stages in order, their paths below a root and their vocabulary the world's.

        Raises:
            ConfigError: If a stage's location grid is not the world's.
        """
        stages = {"vision": self.vision, "pretrain": self.pretrain, "instruct": self.instruct}
        before = {"vision": "", "pretrain": "vision", "instruct": "pretrain"}
        for name, run in stages.items():
            if run.data.num_cells != self.world.num_cells:
                raise ConfigError(
                    f"{name}.num_cells: expected world.num_cells={self.world.num_cells}, "
                    f"found {run.data.num_cells}"
                )
        size = Vocabulary(num_pieces=self.num_pieces, num_cells=self.world.num_cells).size
        return {
            name: _below(root, run, vocabulary_size=size, start_from=before[name])
            for name, run in stages.items()
        }


def _below(root: Path, run: Run, *, vocabulary_size: int, start_from: str) -> Run:
    """A run whose relative paths lie below a root."""
    return replace(
        run,
        model=with_vocabulary(run.model, vocabulary_size),
        data=replace(
            run.data,
            tokenizer=str(root / run.data.tokenizer),
            streams=tuple(
                replace(
                    stream,
                    path=str(root / stream.path),
                    heldout_path=str(root / stream.heldout_path),
                )
                for stream in run.data.streams
            ),
        ),
        train=replace(run.train, start_from=str(root / start_from / "model") if start_from else ""),
    )
