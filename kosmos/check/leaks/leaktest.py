"""Leak test: change one document of packed rows and see in which others anything moves.

Nothing is concluded from masks: the training objective reads the batch, the output of every decoder
layer is watched, and what must not depend on something must be the same to the last bit. A row of
documents a, b, c and padding, isolated (left) and in full sentences (right); a line is what was
changed, ``x`` what moved::

              a b c             a b c
    a         x . .             x x x      later documents see it, as the paper packs text
    b         . x .             . x x
    c         . . x             . . x
    padding   . . .             . . .
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

from kosmos.check.leaks.report import Check, LeakReport, matrix_checks, may_move
from kosmos.data.batch import Batch
from kosmos.model.config import ModelConfig
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.runtime import generator
from kosmos.train.step import NextToken

_TOLERANCE = 1e-4
"""How far two ways to compute the same may differ, of the largest value: rows of another length are
added up in another order. Measured at most 3.7e-7 with the small model in float32 on the
microcosm's rows; deeper ones round more often. A position off by one moves a state by more than
0.05."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the model made of a batch."""

    layers: list[Float[Tensor, "batch positions width"]]
    """Output of each layer, and of the final norm as the last."""
    loss: float

    @property
    def hidden(self) -> Float[Tensor, "batch positions width"]:
        return self.layers[-1]


def small_model(config: ModelConfig, *, seed: int = 0) -> Kosmos:
    """A model of two thin layers and random weights that reads the same rows as a larger one.

    Vocabulary, kind of positions, pictures and slots are those of ``config``.
    """
    width, heads = 64, 4
    decoder = replace(
        config.decoder, width=width, num_layers=2, num_heads=heads, ffn_width=128, dropout=0.0,
        attention_dropout=0.0,
    )  # fmt: skip
    if config.vision is None or config.connector is None:
        small = ModelConfig(decoder=decoder)
    else:
        small = ModelConfig(
            decoder=decoder,
            vision=replace(
                config.vision, width=width, num_layers=2, num_heads=heads, ffn_width=128
            ),
            connector=replace(
                config.connector, width=width, num_layers=1, num_heads=heads, attention_dropout=0.0
            ),
        )
    model = Kosmos(small)
    initialize(model, seed=seed)
    return model.eval()


@torch.no_grad()
def leak_test(
    model: Kosmos, batch: Batch, *, seed: int = 0, advance: Callable[[], None] = lambda: None
) -> LeakReport:
    """Change what a batch holds, one thing at a time, and measure what moves.

    Args:
        model: Of any weights; it is put in evaluation mode. Weights that are zero hide leaks: a
            document that does not move when it is changed itself fails the test.
        batch: As the loader gives it.
        advance: Called after each of :func:`num_changes`.
    """
    return _LeakTest(model, batch, seed, advance).report()


def num_changes(model: Kosmos, batch: Batch) -> int:
    """How many passes a leak test makes that take its time: one for each document and picture."""
    connector = model.config.connector
    num_images = 0 if connector is None else int(batch.image_slots.sum()) // connector.num_queries
    return len(batch.document_ids) + num_images


class _LeakTest:
    """A model, a batch, and what the model makes of it unchanged."""

    def __init__(self, model: Kosmos, batch: Batch, seed: int, advance: Callable[[], None]) -> None:
        self.model = model.eval()
        self.batch = batch
        self.seed = seed
        self.advance = advance
        self.objective = NextToken(model)
        self.isolated = batch.segments is not None
        self.used = batch.documents[:, 1:] >= 0
        """Where a token is read that something follows; a row's last token takes no position."""
        self.of_position = np.where(self.used, batch.documents[:, :-1], -1)
        count = len(batch.document_ids)
        self.rows = [int(np.argwhere(batch.documents == n)[0, 0]) for n in range(count)]
        self.seen = self.see(batch)

    def report(self) -> LeakReport:
        count = len(self.batch.document_ids)
        moved = np.zeros((count + 1, count))
        for number in range(count):
            moved[number] = self.moved_documents(self.see(self.changed(number)))
            self.advance()
        if not self.used.all():
            moved[count] = self.moved_documents(self.see(self.changed(-1)))
        report = LeakReport(
            stream=self.batch.stream,
            isolated=self.isolated,
            document_ids=self.batch.document_ids,
            rows=tuple(self.rows),
            moved=moved,
            checks=(),
        )
        is_read = np.isin(np.arange(count), self.of_position)
        checks = (
            *matrix_checks(report, has_padding=not self.used.all(), is_read=is_read),
            self.positions_restart(),
            self.documents_are_as_if_alone(),
            self.first_loss_is_in_place(),
            *self.pictures_go_to_their_slots(),
        )
        return replace(report, checks=checks)

    # --- reading

    def see(self, batch: Batch) -> _Seen:
        """Read a batch exactly as training does."""
        with _watch(self.model) as layers:
            loss = float(self.objective.loss(batch))
        return _Seen(list(layers), loss)

    def differences(self, seen: _Seen) -> Float32[np.ndarray, "batch positions"]:
        """Largest |difference| at each position, over all layers and logits."""
        pairs = zip(seen.layers, self.seen.layers, strict=True)
        largest = torch.stack([(a - b).abs().amax(-1) for a, b in pairs]).amax(0)
        rows, places = torch.nonzero((seen.hidden != self.seen.hidden).any(-1), as_tuple=True)
        # the head reads each position by itself: equal states have equal logits
        for part in range(0, len(rows), 256):
            at = rows[part : part + 256], places[part : part + 256]
            logits = self.model.logits(seen.hidden[at]) - self.model.logits(self.seen.hidden[at])
            largest[at] = torch.maximum(largest[at], logits.abs().amax(-1))
        return largest.float().cpu().numpy()

    def moved_documents(self, seen: _Seen) -> Float[np.ndarray, " documents"]:
        """Largest |difference| in each document."""
        differences = self.differences(seen)
        return np.array(
            [
                differences[self.of_position == n].max(initial=0.0)
                for n in range(len(self.batch.document_ids))
            ]
        )

    # --- changing

    def changed(self, number: int) -> Batch:
        """The batch with other ids, and other pictures, in one document; in padding if -1."""
        rng = generator(self.seed, "leak-test", number)
        batch = self.batch
        mine = batch.documents == number
        token_ids, targets = batch.token_ids.copy(), batch.targets.copy()
        size = self.model.config.decoder.vocab_size
        first = self.model.config.decoder.pad_id + 1
        # any other id that is neither <s> nor padding
        shift = rng.integers(1, size - first, size=batch.documents.shape)
        for ids, part in ((token_ids, np.s_[:, :-1]), (targets, np.s_[:, 1:])):
            places = mine[part] if number >= 0 else ~self.used
            ids[places] = first + (ids[places] - first + shift[part][places]) % (size - first)
        pixels = batch.pixels
        if pixels is not None:
            pixels = pixels.copy()
            for image, (row, start) in enumerate(self.image_places()):
                if batch.documents[row, start] == number:
                    pixels[image] = rng.standard_normal(pixels[image].shape)
        return replace(batch, token_ids=token_ids, targets=targets, pixels=pixels)

    def image_places(self) -> list[tuple[int, int]]:
        """Row and first slot of each picture."""
        connector = self.model.config.connector
        if connector is None or self.batch.pixels is None:
            return []
        return [
            (row, start)
            for row, slots in enumerate(self.batch.image_slots)
            for start in np.flatnonzero(slots)[:: connector.num_queries].tolist()
        ]

    # --- proofs beside the matrix

    def positions_restart(self) -> Check:
        """Positions count from 0 in every document, or in every row where documents share one."""
        what = "document" if self.isolated else "row"
        wrong = [
            self._unit_name(row, start)
            for row, start, stop in self.units()
            if (self.batch.positions[row, start:stop] != np.arange(stop - start)).any()
        ]
        return _wrong(f"positions count from 0 in every {what}", len(self.units()), what, wrong)

    def units(self) -> list[tuple[int, int, int]]:
        """Row, first position and past the last one of what attends within itself."""
        labels = 0 if self.batch.segments is None else self.batch.segments
        units = []
        for row, of_row in enumerate(np.where(self.used, labels, -1)):
            bounds = np.flatnonzero(np.diff(of_row, prepend=-2, append=-2)).tolist()
            units += [(row, a, b) for a, b in pairwise(bounds) if of_row[a] >= 0]
        return units

    def documents_are_as_if_alone(self) -> Check:
        """What is packed is read as it would be without neighbors, padding or other rows."""
        worst, loss = 0.0, 0.0
        for row, start, stop in self.units():
            alone = self.see(self._alone(row, start, stop))
            packed = self.seen.hidden[row, start:stop]
            worst = max(worst, float((alone.hidden[0] - packed).abs().max() / packed.abs().max()))
            loss += alone.loss
        gap = abs(loss - self.seen.loss) / max(abs(self.seen.loss), 1e-9)
        what = "documents" if self.isolated else "rows"
        return Check(
            f"{what} are read as if each stood alone",
            f"hidden states differ by {worst:.1e} of the largest, summed losses by {gap:.1e}",
            worst <= _TOLERANCE and gap <= _TOLERANCE,
        )

    def _alone(self, row: int, start: int, stop: int) -> Batch:
        """A batch of one row that holds nothing else."""
        batch, part = self.batch, (slice(row, row + 1), slice(start, stop))
        images = [
            n for n, (r, s) in enumerate(self.image_places()) if r == row and start <= s < stop
        ]
        return replace(
            batch,
            token_ids=batch.token_ids[part],
            targets=batch.targets[part],
            loss_weights=batch.loss_weights[part],
            positions=np.arange(stop - start)[None],
            segments=None,
            image_slots=batch.image_slots[part],
            pixels=batch.pixels[images] if images and batch.pixels is not None else None,
            documents=batch.documents[row : row + 1, start : stop + 1],
        )

    def first_loss_is_in_place(self) -> Check:
        """The first learned token of each document is asked of the position before it."""
        batch = self.batch
        weights = np.zeros_like(batch.loss_weights)
        wanted, own, count = 0.0, 0, 0
        for number, row in enumerate(self.rows):
            learned = (batch.documents[row, 1:] == number) & (batch.loss_weights[row] > 0)
            if not learned.any():
                continue
            place = int(learned.argmax())
            count += 1
            own += bool(batch.documents[row, place] == number)
            weights[row, place] = count  # no two the same, so that none can stand for another
            is_input = place + 1 < batch.token_ids.shape[1] and self.used[row, place + 1]
            token = batch.token_ids[row, place + 1] if is_input else batch.targets[row, place]
            scores = F.log_softmax(self.model.logits(self.seen.hidden[row, place]).float(), dim=-1)
            wanted -= count * float(scores[int(token)])
        name = "the first loss of a document is that of its first learned token"
        if not count:
            return Check(name, "no document has loss", None)
        loss = self.see(replace(batch, loss_weights=weights)).loss
        gap = abs(loss - wanted) / max(abs(wanted), 1e-9)
        found = f"{own} of {count} asked within the document"
        if own < count:
            found += f", {count - own} at the end of the one before"
        # in full sentences a document has no <s> of its own to be predicted from
        in_place = own == count or not self.isolated
        return Check(name, f"{found}; off by {gap:.1e}", in_place and gap <= _TOLERANCE)

    def pictures_go_to_their_slots(self) -> Iterator[Check]:
        """A picture moves its slots and what sees them; two that change places, their documents."""
        names = (
            "a picture moves its own slots and nothing before them",
            "swapped pictures move their documents alone",
        )
        places, pixels = self.image_places(), self.batch.pixels
        if not places or pixels is None:
            yield Check(names[0], "no pictures in this batch", None)
            return
        wrong = []
        num_slots = int(self.batch.image_slots.sum()) // len(places)
        for image, (row, start) in enumerate(places):
            other = pixels.copy()
            rng = generator(self.seed, "picture", image)
            other[image] = rng.standard_normal(other[image].shape)
            moved = self.differences(self.see(replace(self.batch, pixels=other))) > 0
            is_right = moved[row, start : start + num_slots].all()
            moved[row, start:] = False
            self.advance()
            if not is_right or moved.any():
                wrong.append(f"{image + 1} ({self._unit_name(row, start)})")
        yield _wrong(names[0], len(places), "picture", wrong)
        yield self._swap(names[1], places, pixels)

    def _swap(self, name: str, places: list[tuple[int, int]], pixels: np.ndarray) -> Check:
        of_image = [int(self.batch.documents[place]) for place in places]
        pairs = [
            (a, b)
            for a, b in combinations(range(len(places)), 2)
            if of_image[a] != of_image[b] and (pixels[a] != pixels[b]).any()
        ]
        if not pairs:
            return Check(name, "no two documents with different pictures in this batch", None)
        one, two = pairs[0]
        order = np.arange(len(places))
        order[[one, two]] = two, one
        moved = self.moved_documents(self.see(replace(self.batch, pixels=pixels[order]))) > 0
        owners = [of_image[one], of_image[two]]
        ids = self.batch.document_ids
        allowed = may_move(self.rows, isolated=self.isolated)[owners].any(0)
        told = ", ".join(repr(ids[n]) for n in np.flatnonzero(moved)[:6])
        found = f"pictures {one + 1} and {two + 1} swapped: {told or 'nothing'} moved"
        return Check(name, found, bool(moved[owners].all() and not (moved & ~allowed).any()))

    def _unit_name(self, row: int, start: int) -> str:
        number = int(self.batch.documents[row, start])
        return repr(self.batch.document_ids[number])


def _wrong(name: str, count: int, what: str, wrong: list[str]) -> Check:
    """That none of so many things is wrong, or which are."""
    found = f"{count} {what}s, {len(wrong)} of them wrong"
    return Check(name, found + (f": {', '.join(wrong[:3])}" if wrong else ""), not wrong)


@contextmanager
def _watch(model: Kosmos) -> Iterator[list[Tensor]]:
    """Collect what every decoder layer and the final norm give while the block runs."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
        del module, inputs
        outputs.append(output.detach())

    watched = [*model.decoder.layers, model.decoder]
    handles = [module.register_forward_hook(keep) for module in watched]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
