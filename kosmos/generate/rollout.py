"""Prompts read once and continued token by token: the only caller of the cached model.

A branch is one sequence being continued. Prompts that share a beginning are branches of one row of
the cache from the start, and a branch that is continued twice becomes two branches of its row.
Nothing is copied for that: a branch only remembers which slots are its own. In two rows, the first
forked after ``a``, then the fork ``c`` dropped, its slot remains and is seen by nobody::

    step             row 0                    row 1
    prompt           <s> a                    <s> b
    [0, 0, 1]        <s> a | c d              <s> b | e -
    [1, 2]           <s> a | c d | f          <s> b | e - | g
    branch sees      x   x   . x   x          x   x   x .   x
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kosmos.errors import CheckpointError
from kosmos.generate.constraints import Ahead
from kosmos.generate.cuda_graph import GraphedStep, GraphedSteps
from kosmos.generate.tree import Prompt, Tree, TreeBatch, grow, stack_trees
from kosmos.model.cache import KVCache
from kosmos.model.kosmos import Kosmos

_CHUNK_TOKENS = 256
"""Positions whose logits exist at once while scoring; 64 MiB of float32 with 65,037 ids."""

_ROOM_TOKENS = 128
"""Most slots behind a prompt that are allocated before they are needed."""


class _Read(NamedTuple):
    """A token that was read before it was chosen."""

    token_id: int
    slot: int
    """Where it is in its row of the cache."""
    state: Tensor
    """Hidden state behind it, [width]."""
    behind: list["_Read"]
    """Tokens that were read behind it."""


class _Node(NamedTuple):
    """A token to read, of a tree of them."""

    token_id: int
    branch: int
    parent: int
    """Among the nodes; -1 for the first."""


class Rollout:
    """:class:`~kosmos.generate.search.Rows` of a model with a cache; its rows are branches here.

    Args:
        model: In evaluation mode.
        groups: What to continue: prompts, those that share a beginning together.
        room: Most tokens that will be stepped over.
        fan: Most branches that each prompt will become.
        score_prompts: Also add up the log-probabilities of the prompts.
        graphed: Where to take steps of static shape from, to be given back by :meth:`close`;
            None: shapes follow the work.

    Raises:
        CheckpointError: If a logit is not finite, naming the step and the prompt.
    """

    log_probs: Tensor
    prompt_log_probs: list[float]
    """Sum over each prompt's tokens after ``<s>``; zeros unless asked for."""

    def __init__(
        self,
        model: Kosmos,
        groups: Sequence[Sequence[Prompt]],
        *,
        room: int,
        fan: int = 1,
        score_prompts: bool = False,
        graphed: GraphedSteps | None = None,
    ) -> None:
        self._model = model
        prompts = [prompt for group in groups for prompt in group]
        self._names = [prompt.name for prompt in prompts]
        self._origin = list(range(len(prompts)))  # prompt of each branch
        self._step = 0
        trees = [grow(group) for group in groups]
        longest = max(len(tree) for tree in trees)
        width = fan * max(len(group) for group in groups)
        self._graphed = graphed
        self._static: GraphedStep | None = None
        if graphed is not None:
            self._static = graphed.take(rows=len(trees), width=width, prompt=longest, room=room)
        self._cache = (
            self._static.cache
            if self._static
            else KVCache(
                model.config.decoder,
                batch=len(trees),
                capacity=longest + min(room * width, _ROOM_TOKENS),
                dtype=model.dtype,
                device=model.device,
            )
        )
        hidden, batch = read_trees(model, trees, cache=self._cache)
        self._rows = batch.rows  # row of the cache of each branch
        self._depths = [len(prompt.encoded) for prompt in prompts]  # tokens of each branch
        self._waiting: list[list[_Read]] = [[] for _ in prompts]  # read before they were chosen
        self._seen: Tensor | None = None  # bool [branches length]; None: a branch is a whole row
        if len(prompts) > len(groups) or self._static:
            self._seen = torch.zeros(
                (len(prompts), self._cache.length), dtype=torch.bool, device=model.device
            )
            for seen, path in zip(self._seen, batch.paths, strict=True):
                seen[torch.from_numpy(path)] = True
        self.log_probs = self._next(batch.ends(hidden))
        self.prompt_log_probs = [0.0] * len(prompts)
        if score_prompts:
            for index, prompt in enumerate(prompts):
                targets = torch.as_tensor(prompt.encoded.token_ids[1:], device=model.device)
                states = batch.states(hidden, index)[:-1]
                self.prompt_log_probs[index] = float(token_log_probs(model, states, targets).sum())

    def close(self) -> None:
        """Let others have what was taken; nothing can be read any more."""
        if self._graphed is not None and self._static is not None:
            self._graphed.give_back(self._static)
        self._graphed = self._static = None

    def step(
        self,
        rows: Sequence[int],
        token_ids: Sequence[int],
        *,
        ahead: Sequence[Sequence[Ahead]] = (),
    ) -> Float[Tensor, "rows vocab"]:
        """As :class:`~kosmos.generate.search.Rows` says."""
        self._branch(rows)
        self._forget_unused()
        if self._static is not None or not ahead:
            ahead = [()] * len(rows)
        return self._read(token_ids, ahead)

    def look_ahead(
        self, rows: Sequence[int], token_ids: Sequence[int]
    ) -> Float[Tensor, "looks vocab"]:
        """What :meth:`step` would return, while all rows stay what they are.

        A row may be named any number of times, or not at all. Not with steps of static shape,
        whose width is that of a step.
        """
        assert self._static is None
        before = (self._origin, self._depths, self._rows, self._seen, self._waiting, self._step)
        length = self._cache.length
        self._branch(rows)
        log_probs = self._read(token_ids, [()] * len(rows))
        self._origin, self._depths, self._rows, self._seen, self._waiting, self._step = before
        self._cache.truncate(length)
        return log_probs

    def _read(
        self, token_ids: Sequence[int], ahead: Sequence[Sequence[Ahead]]
    ) -> Float[Tensor, "rows vocab"]:
        """Continue each branch with a token, read already or together with what may follow it."""
        self._step += 1
        is_plain = self._seen is None and not any(ahead)
        states = self._read_rows(token_ids) if is_plain else self._read_trees(token_ids, ahead)
        self._depths = [depth + 1 for depth in self._depths]
        return self._next(states)

    def _read_rows(self, token_ids: Sequence[int]) -> Float[Tensor, "rows width"]:
        """Read a token in each row, which is one branch and has seen all of it."""
        device = self._model.device
        shape = (self._cache.batch, 1)  # a row that no branch is of reads padding
        ids = torch.full(shape, self._model.config.decoder.pad_id, device=device)
        ids[self._rows, 0] = torch.tensor(token_ids, device=device)
        self._cache.reserve(1)
        states: Tensor = self._model(ids, cache=self._cache)
        return states[self._rows, 0]

    def _read_trees(
        self, token_ids: Sequence[int], ahead: Sequence[Sequence[Ahead]]
    ) -> Float[Tensor, "rows width"]:
        """Read a tree of tokens behind each branch, or find what was read before."""
        self._tell_branches_apart()
        assert self._seen is not None
        known = [
            next((read for read in self._waiting[branch] if read.token_id == token_id), None)
            for branch, token_id in enumerate(token_ids)
        ]
        unread = [branch for branch, read in enumerate(known) if read is None]
        if unread:
            asked = {branch: Ahead(token_ids[branch], list(ahead[branch])) for branch in unread}
            for branch, read in self._read_ahead(asked).items():
                known[branch] = read
        reads = [read for read in known if read is not None]
        self._seen[range(len(reads)), [read.slot for read in reads]] = True
        self._waiting = [read.behind for read in reads]
        return torch.stack([read.state for read in reads])

    def _read_ahead(self, asked: Mapping[int, Ahead]) -> dict[int, _Read]:
        """Read a tree of tokens behind each of some branches, each token seeing its ancestors."""
        assert self._seen is not None
        nodes: list[_Node] = []
        for branch, first in asked.items():
            waiting = [(first, -1)]
            while waiting:
                token, parent = waiting.pop()
                waiting += [(child, len(nodes)) for child in token.behind]
                nodes.append(_Node(token.token_id, branch, parent))
        rows = [self._rows[node.branch] for node in nodes]
        columns, width = _columns(rows)
        if self._static is not None:
            width = self._static.width
        past, device = self._cache.length, self._model.device
        shape = (self._cache.batch, width)
        ids = torch.full(shape, self._model.config.decoder.pad_id, device=device)
        ids[rows, columns] = torch.tensor([node.token_id for node in nodes], device=device)
        visible = self._seen.new_zeros((*shape, past + width))
        visible[rows, columns, :past] = self._seen[[node.branch for node in nodes]]
        own = torch.arange(width, device=device)
        visible[:, own, past + own] = True
        depths: list[int] = []
        for node, row, column in zip(nodes, rows, columns, strict=True):
            if node.parent < 0:
                depths.append(self._depths[node.branch])
                continue
            depths.append(depths[node.parent] + 1)
            visible[row, column] |= visible[row, columns[node.parent]]
        positions = torch.zeros(shape, dtype=torch.long, device=device)
        positions[rows, columns] = torch.tensor(depths, device=device)
        hidden = self._states(ids, positions, visible)
        self._seen = torch.cat([self._seen, self._seen.new_zeros((len(self._seen), width))], dim=1)
        reads: list[_Read] = []
        for node, column, state in zip(nodes, columns, hidden[rows, columns].unbind(), strict=True):
            reads.append(_Read(node.token_id, past + column, state, []))
            if node.parent >= 0:
                reads[node.parent].behind.append(reads[-1])
        roots = [read for node, read in zip(nodes, reads, strict=True) if node.parent < 0]
        return dict(zip(asked, roots, strict=True))

    def _states(self, ids: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
        """Hidden states of the new tokens of all rows, padding included."""
        if self._static is None:
            self._cache.reserve(ids.shape[1])
            states: Tensor = self._model(
                ids, positions=positions, visible=visible, cache=self._cache
            )
            return states
        whole = visible.new_zeros((*ids.shape, self._cache.capacity))
        whole[:, :, : visible.shape[2]] = visible
        return self._static(ids, positions=positions, visible=whole)

    def _branch(self, rows: Sequence[int]) -> None:
        """Make branch ``i`` what branch ``rows[i]`` was."""
        if len(set(rows)) < len(rows):
            self._tell_branches_apart()
        if self._seen is not None:
            self._seen = self._seen[torch.tensor(rows, device=self._seen.device)]
        self._origin = [self._origin[row] for row in rows]
        self._depths = [self._depths[row] for row in rows]
        self._rows = [self._rows[row] for row in rows]
        self._waiting = [self._waiting[row] for row in rows]

    def _tell_branches_apart(self) -> None:
        """From here on a row of the cache is more than one branch, or more than it has read."""
        if self._seen is None:
            valid = self._cache.valid
            shape = (self._cache.batch, self._cache.length)
            whole = torch.ones(shape, dtype=torch.bool, device=self._model.device)
            self._seen = (whole if valid is None else valid)[self._rows]

    def _forget_unused(self) -> None:
        """Let go of rows of the cache without a branch."""
        used = sorted(set(self._rows))
        if len(used) < self._cache.batch and self._static is None:
            self._cache.keep(torch.tensor(used, device=self._model.device))
            places = {row: place for place, row in enumerate(used)}
            self._rows = [places[row] for row in self._rows]

    def _next(self, hidden: Float[Tensor, "rows width"]) -> Float[Tensor, "rows vocab"]:
        logits = self._model.logits(hidden).float()
        # a sum shows NaN and infinity 20 times faster than isfinite does; finite numbers so large
        # that only their sum is infinite are let through by the second look
        if bool(logits.sum(dim=-1).isfinite().all()) or bool(logits.isfinite().all()):
            return logits.log_softmax(dim=-1)
        row = int((~logits.isfinite().all(dim=-1)).nonzero()[0])
        found = "NaN" if bool(logits[row].isnan().any()) else "infinity"
        raise CheckpointError(
            f"{self._names[self._origin[row]]}: expected finite logits, found {found} "
            f"at step {self._step} (0 is the first token of the reply)",
            hint="the weights hold such numbers, or overflow in a 16-bit dtype: try float32",
        )


def read_trees(
    model: Kosmos, trees: Sequence[Tree], *, cache: KVCache | None = None
) -> tuple[Float[Tensor, "rows slots width"], TreeBatch]:
    """Read a batch of trees in one pass.

    Args:
        model: In evaluation mode.
        trees: At least one.
        cache: Empty, with a row for each tree and space for the longest.

    Returns:
        Hidden states, meaningless at padding, and where each sequence has its own.
    """
    batch = stack_trees(trees, pad_id=model.config.decoder.pad_id, device=model.device)
    return model(**batch.inputs, cache=cache), batch


def token_log_probs(
    model: Kosmos,
    hidden: Float[Tensor, "states width"],
    token_ids: Int[Tensor, " tokens"],
    *,
    which: Int[Tensor, " tokens"] | None = None,
) -> Float[Tensor, " tokens"]:
    """Log-probability of tokens given the hidden states before them, float32.

    Args:
        model: Gives the logits.
        hidden: States.
        token_ids: Tokens to look up.
        which: The state before each token; None: each has its own, in order.
    """
    if which is None:
        which = torch.arange(len(token_ids), device=hidden.device)
    found = torch.empty(len(token_ids), device=hidden.device)
    for start in range(0, len(hidden), _CHUNK_TOKENS):
        log_probs = model.logits(hidden[start : start + _CHUNK_TOKENS]).float().log_softmax(dim=-1)
        here = (which >= start) & (which < start + _CHUNK_TOKENS)
        found[here] = log_probs[which[here] - start, token_ids[here]]
    return found


def _columns(rows: Sequence[int]) -> tuple[list[int], int]:
    """Place of each branch among those of its row, and the most that a row has."""
    counts: dict[int, int] = {}
    columns = []
    for row in rows:
        columns.append(counts.get(row, 0))
        counts[row] = columns[-1] + 1
    return columns, max(counts.values())
