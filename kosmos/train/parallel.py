"""Many processes that train one model: who is here, what they sum, how the model is split.

torchrun starts them and says so in the environment; without it there is one. Parallelism is applied
to a finished model from outside, in the order that each needs of the next: layers that are computed
again in the backward pass, layers that are compiled, weights that are split (FSDP2)::

    with joined(sharded=...) as processes:
        objective = NextToken(Kosmos(...))
        split(objective.module, precision="bfloat16", methods=objective.methods)

Gradients are summed over the processes, not averaged: the step divides every loss by the weight of
the whole step already.

Source: torch's FSDP2 (``fully_shard``). Plain sums, because gloo knows no others.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore, PrefixStore, Store
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from kosmos.errors import ConfigError

if TYPE_CHECKING:
    from kosmos.train.config import Precision

_log = logging.getLogger(__name__)

T = TypeVar("T")

_LAYERS = "layers"
_LONG = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The processes of a run, seen from one of them."""

    rank: int = 0
    """Number of this one."""
    size: int = 1
    """How many there are."""
    device: torch.device
    """Where this one's part of the model is."""
    are_joined: bool = False
    """Whether they can talk, and so whether weights can be split."""
    group: dist.ProcessGroup | None = None
    """Through which they talk; None: the one of all of torch."""
    store: Store | None = None
    """Where they found each other and can leave word; None: there is one of them."""

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks for all."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes, in float64; the same on each."""
        if self.size == 1:
            return [float(value) for value in values]
        # a GPU's backend takes tensors of its device only
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total, group=self.group)
        sums: list[float] = total.tolist()
        return sums

    def largest(self, values: Sequence[float]) -> list[float]:
        """The largest of all processes, in float64; the same on each."""
        if self.size == 1:
            return [float(value) for value in values]
        found = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.group)
        most: list[float] = found.tolist()
        return most

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def first_of(self, value: T) -> T:
        """The first process's value."""
        return self.gather(value)[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            self.sum([0.0])

    def apart(self) -> "Processes":
        """The same processes with a line of their own, for another thread; every one must ask."""
        if not self.are_joined:
            return self
        line = dist.new_group(backend="gloo")
        return replace(self, group=line, device=torch.device("cpu"))

    @contextmanager
    def one_before_the_others(self, what: str) -> Iterator[None]:
        """The first process alone, then all others: what it leaves on the disk, they find.

        They wait as long as it takes. A collective would give up after ten minutes on GPUs, and
        the index of a large corpus takes hours.

        Args:
            what: Name of what it does, once in a run.
        """
        if self.store is not None and not self.is_first:
            self.store.wait([what], _LONG)
        yield
        if self.store is not None and self.is_first:
            self.store.set(what, "done")


ALONE = Processes(device=torch.device("cpu"))
"""One process, on the CPU."""


def num_processes() -> int:
    """Processes that torchrun started; 1 without it.

    Raises:
        ConfigError: If WORLD_SIZE is no positive number.
    """
    found = os.environ.get("WORLD_SIZE", "1")
    if not found.isdigit() or int(found) == 0:
        raise ConfigError(f"WORLD_SIZE: expected a positive number, found {found!r}")
    return int(found)


@contextmanager
def joined(*, sharded: bool) -> Iterator[Processes]:
    """Join the processes that torchrun started, and part at the end.

    Args:
        sharded: Whether weights are to be split even if there is one process.

    Raises:
        ConfigError: If the environment is not torchrun's.
    """
    size = num_processes()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cpu")
    if on_gpu:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if size == 1 and not sharded:
        yield Processes(device=device)
        return
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    store, rank = _meeting_place() if size > 1 else (HashStore(), 0)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield Processes(rank=rank, size=size, device=device, are_joined=True, store=store)
    finally:
        dist.destroy_process_group()


def _meeting_place() -> tuple[Store, int]:
    """Where processes find each other, and the number of this one, as torchrun says.

    torchrun keeps what is stored there when it starts processes again, and a process that reads the
    address of one that is dead waits for it in vain. So each start has keys of its own; of several
    machines only torchrun itself can see to that.
    """
    try:
        store, rank, size = next(rendezvous("env://"))
    except ValueError as error:
        raise ConfigError(
            f"WORLD_SIZE: expected the other variables of torchrun beside it: {error}",
            hint="torchrun --nproc-per-node N -m kosmos train ...; or unset WORLD_SIZE",
        ) from error
    if os.environ.get("LOCAL_WORLD_SIZE") == str(size):
        start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return PrefixStore(f"start-{start}", store), rank
    is_kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if is_kept and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0" and rank == 0:
        _log.warning(
            "a restart may find addresses of dead processes; start torchrun with "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment of every machine"
        )
    return store, rank


def prepare_layers(module: nn.Module, *, recompute: bool, compiled: bool) -> None:
    """Change how the layers of a model are computed, in place; names and weights stay.

    Args:
        module: Layers are the elements of its lists called ``layers``.
        recompute: Forget activations inside a layer and compute them again in the backward pass.
        compiled: Compile each layer, at its first call.
    """
    for layer in _layers(module):
        if recompute:
            # dropout is the same again: the state of its random numbers is kept
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        if compiled:
            layer.compile()


def split(module: nn.Module, *, precision: "Precision", methods: Sequence[str]) -> None:
    """Split weights, gradients and moments over all processes, in place.

    Each layer is put together when it is needed and taken apart after it; what is in no layer
    (embedding, norms, connector) stays together from the forward pass to the end of the backward.

    Args:
        module: On this process's device, the same in every process.
        precision: ``bfloat16``: computes in bfloat16 from weights, moments and summed gradients
            that are float32.
        methods: What reads weights beside ``forward``.
    """
    policy = MixedPrecisionPolicy()
    if precision == "bfloat16":
        # inputs are not cast: the model takes the type of its weights by itself, and a cast would
        # look into every tuple and dataclass and round the tables of xPos to 8 bits
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    # soft tokens are a view of what computed them; nothing is written into them
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    for layer in _layers(module):
        fully_shard(layer, mp_policy=policy)
    fully_shard(module, mp_policy=policy)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
    for method in methods:
        register_fsdp_forward_method(module, method)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, of which this process may hold a part; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(module: nn.Module, processes: Processes) -> dict[str, Tensor]:
    """All weights in the memory of the first process, nothing in the others; every one must ask."""
    weights: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        value = whole(tensor)
        if processes.is_first:
            weights[name] = value.cpu()
    return weights


def _layers(module: nn.Module) -> list[nn.Module]:
    """The elements of lists called ``layers``, wherever they are."""
    return [
        layer
        for name, child in module.named_modules()
        if name.rpartition(".")[2] == _LAYERS and isinstance(child, nn.ModuleList)
        for layer in child
    ]
