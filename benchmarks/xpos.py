"""xPos on queries and keys of 1 x 32 x 2048 x 64, as often as 24 layers ask for it.

The peer is the published formula, written from the paper and torchscale's constants: tables made
anew in every call and repeated for neighboring features, a copy of the states turned by a quarter,
two products and a sum. Ours makes the tables once for all layers and multiplies complex numbers.
Each side gets states as its attention has them, ours before heads and positions change places, the
peer after; and new ones for every layer, as a projection leaves them, which takes no part of the
time. Nothing is learned meanwhile, so that ours may write where the states were.
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import agree
from benchmarks.harness.bench import RATIO, Benchmark, Case, Setting, main
from benchmarks.harness.measure import Target
from kosmos.model.positions import XPOS_GAMMA, Rotation, rotate, xpos

NUM_LAYERS, NUM_HEADS, NUM_TOKENS, HEAD, SCALE_BASE = 24, 32, 2048, 64, 512
TOLERANCE = 5e-4
"""Angles of up to 2,048 radians in float32 are this far apart, computed in two ways."""
BENCHMARK = Benchmark(
    name="xpos",
    title="xPos",
    workload=f"1×{NUM_HEADS}×{NUM_TOKENS}×{HEAD}, queries and keys of {NUM_LAYERS} layers",
    peer="torchscale's formula",
    targets=[Target(name=RATIO, bound=8.0)],
    size="small",
    rounds=7,
    on_cuda=False,
)


def published(states: Tensor, *, inverse: bool) -> Tensor:
    """Rotate and decay states as published.

    Args:
        states: Queries or keys, ``[heads tokens head]``.
        inverse: Whether decay is inverted, as it is for keys.

    Source: xPos (arXiv:2212.10554), algorithm 1; torchscale for the order of operations.
    """
    tokens, size = states.shape[1:]
    pairs = torch.arange(0, size, 2)
    zeta = (pairs + XPOS_GAMMA * size) / ((1 + XPOS_GAMMA) * size)
    start = -(tokens // 2)
    scale = zeta ** (torch.arange(start, start + tokens) / SCALE_BASE)[:, None]
    if inverse:
        scale = 1 / scale
    frequencies = 1.0 / (10000 ** (torch.arange(len(pairs)) / len(pairs)))
    angles = torch.einsum("i,j->ij", torch.arange(tokens, dtype=torch.float32), frequencies)
    sin, cos = (
        (table * scale).repeat_interleave(2, dim=1) for table in (angles.sin(), angles.cos())
    )
    turned = torch.stack((-states[:, :, 1::2], states[:, :, ::2]), dim=-1).flatten(-2)
    return states * cos + turned * sin


def prepare(setting: Setting) -> Case:
    """The same states in every layer, as it is the work that is timed."""
    layers, heads = setting.count(NUM_LAYERS, 2), setting.count(NUM_HEADS, 2)
    tokens = setting.count(NUM_TOKENS, 128)
    rng = torch.Generator().manual_seed(setting.args.seed)
    query, key = (torch.randn(1, tokens, heads, HEAD, generator=rng) for _ in "qk")
    their_query, their_key = (
        states.transpose(1, 2).flatten(0, 1).contiguous() for states in (query, key)
    )
    scratch, their_scratch = torch.empty_like(query), torch.empty_like(their_query)
    positions = torch.arange(tokens).unsqueeze(0)

    def tables() -> Rotation:
        return xpos(positions, head_dim=HEAD, scale_base=SCALE_BASE, center=tokens // 2)

    def timed(states: Tensor, room: Tensor, turn: Callable[[Tensor], Tensor]) -> float:
        room.copy_(states)
        start = time.perf_counter()
        turn(room)
        return time.perf_counter() - start

    @torch.no_grad()
    def ours(turn: int) -> float:
        del turn
        start = time.perf_counter()
        rotation = tables()
        spent = time.perf_counter() - start
        for _ in range(layers):
            spent += timed(query, scratch, lambda room: rotate(room, rotation.query, reuse=True))
            spent += timed(key, scratch, lambda room: rotate(room, rotation.key, reuse=True))
        return spent

    @torch.no_grad()
    def theirs(turn: int) -> float:
        del turn
        spent = 0.0
        for _ in range(layers):
            spent += timed(their_query, their_scratch, lambda room: published(room, inverse=False))
            spent += timed(their_key, their_scratch, lambda room: published(room, inverse=True))
        return spent

    @torch.no_grad()
    def check() -> dict[str, object]:
        rotation = tables()
        found = rotate(query, rotation.query), rotate(key, rotation.key)
        expected = published(their_query, inverse=False), published(their_key, inverse=True)
        apart = [
            agree.tensors(one.transpose(1, 2).flatten(0, 1), other, name, TOLERANCE)
            for name, one, other in zip(("queries", "keys"), found, expected, strict=True)
        ]
        return {"largest difference, relative": max(apart)}

    return Case(
        ours=ours,
        peer=theirs,
        check=check,
        unit="rotations",
        count=2 * layers,
        seconds=float,  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    sys.exit(main(BENCHMARK, prepare))
