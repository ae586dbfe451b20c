"""What processes do together, as far as it needs no second process."""

import threading

import torch
from torch._C._distributed_c10d import HashStore

from kosmos.train.parallel import ALONE, Processes


def test_the_others_wait_for_the_first_without_a_collective_that_would_give_up() -> None:
    # no process group is there: a collective would fail at once
    store, order, begun = HashStore(), list[int](), threading.Event()

    def work(rank: int) -> None:
        device = torch.device("cpu")
        processes = Processes(rank=rank, size=3, device=device, are_joined=True, store=store)
        with processes.one_before_the_others("indices"):
            if rank == 0:
                begun.wait()
            order.append(rank)

    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in (1, 2, 0)]
    for thread in threads:
        thread.start()
    assert order == []
    begun.set()
    for thread in threads:
        thread.join(timeout=60)
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2]


def test_one_process_waits_for_nobody() -> None:
    with ALONE.one_before_the_others("indices"):
        pass
