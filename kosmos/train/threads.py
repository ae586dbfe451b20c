"""How many threads a step is computed with: fewer, where other processes make all of them slower.

Threads of one operation wait for each other. Where another process takes a core from one of them,
all wait for that one, thousands of times in a step: with one other busy process on two cores a step
takes three to nine times as long, while a single thread would hardly notice. So once steps are much
slower than usual, a few are taken with fewer threads, and whatever is faster stays. All are tried
again now and then, and come back when the others are gone.

Another number of threads sums in another order. So nothing is tried while steps take as long as
usual, and nothing ever where OMP_NUM_THREADS is set: who sets it gets the same losses to the last
bit, and so does who has the machine alone. With several processes, torchrun sets it.

What is judged is seconds for each operation that a step needed, since steps differ in what they
hold.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

_SLOWER = 1.6
"""Times the usual that is worth a trial; what a step holds moves its rate by a fifth."""
_NUM_SLOW = 4
"""Steps in a row that are so slow: the writing of a checkpoint passes sooner."""
_NUM_USUAL = 9
"""Steps of which the median may be the usual."""
_NUM_TRIED = 2
"""Steps of a trial, of which the faster counts."""
_CLEARLY = 0.85
"""Part of the time of all threads below which fewer are chosen."""
_WAIT, _LONGEST_WAIT = 20, 160
"""Steps before another trial; as many again after each that changed nothing."""
_WINDOW_S = 0.03
_NUM_WINDOWS = 3

_log = logging.getLogger(__name__)


class ThreadWatch:
    """Chooses the number of threads, a step at a time.

    Args:
        most: Threads to begin with, and never to exceed.
        is_suspect: Whether the machine seemed busy before the first step.
        use: Sets the number.
    """

    def __init__(
        self,
        most: int,
        *,
        is_suspect: bool = False,
        use: Callable[[int], None] = torch.set_num_threads,
    ) -> None:
        self.most = most
        self.num = most
        """In use."""
        self._set = use
        self._is_suspect = is_suspect
        self._usual = float("inf")
        self._costs: list[float] = []  # of the latest steps with this number
        self._to_try: list[int] = []
        self._tried: dict[int, float] = {}
        self._wait, self._num_waited = _WAIT, _WAIT

    def after(self, cost: float) -> None:
        """Take note of a step, and set the number of threads of the next.

        Args:
            cost: Seconds for each operation that it needed.
        """
        if self.most == 1:
            return
        self._costs = [*self._costs, cost][-_NUM_USUAL:]
        self._num_waited += 1
        if self._tried:
            self._go_on()
        elif self.num < self.most:
            if self._num_waited >= self._wait:
                self._try([self.most])
        else:
            if len(self._costs) == _NUM_USUAL:
                self._usual = min(self._usual, median(self._costs))
            latest = self._costs[-_NUM_SLOW:]
            is_slow = len(latest) == _NUM_SLOW and min(latest) > _SLOWER * self._usual
            if (is_slow and self._num_waited >= self._wait) or (
                self._is_suspect and len(self._costs) >= _NUM_TRIED
            ):
                self._try(_fewer(self.most))

    def _try(self, numbers: Sequence[int]) -> None:
        """Begin to compare some numbers with the one in use."""
        self._is_suspect = False
        self._tried = {self.num: min(self._costs[-_NUM_SLOW:])}
        self._to_try = list(numbers)
        self._use(self._to_try.pop(0))

    def _go_on(self) -> None:
        if len(self._costs) < _NUM_TRIED:
            return
        cost = min(self._costs)
        goes_up = cost > min(self._tried.values()) / _CLEARLY
        self._tried[self.num] = cost
        if self._to_try and not goes_up:
            self._use(self._to_try.pop(0))
            return
        tried, self._tried = self._tried, {}
        before, best = next(iter(tried)), min(tried, key=tried.__getitem__)
        if tried[best] > _CLEARLY * tried[self.most]:
            best = self.most
        self._wait = _WAIT if best != before else min(2 * self._wait, _LONGEST_WAIT)
        self._num_waited = 0
        self._use(best)
        if best < before:
            _log.info(
                "%d of %d threads from here on: something else keeps the processor busy, and with "
                "all of them a step takes %.1f times as long; OMP_NUM_THREADS sets a number",
                *(best, self.most, tried[self.most] / tried[best]),
            )
        elif best > before:
            _log.info("all %d threads again", self.most)

    def _use(self, number: int) -> None:
        self.num, self._costs = number, []
        self._set(number)


def watch_threads(device: torch.device, num_processes: int) -> ThreadWatch:
    """A watch for this machine, which leaves alone what somebody has chosen.

    Args:
        device: Where steps are computed.
        num_processes: That compute them.
    """
    most = torch.get_num_threads()
    if device.type != "cpu" or num_processes > 1 or "OMP_NUM_THREADS" in os.environ:
        most = 1
    return ThreadWatch(most, is_suspect=most > 1 and _seems_busy(most))


def _fewer(most: int) -> list[int]:
    """Numbers to try: one less, then half as many again and again."""
    numbers = [most - 1]
    while numbers[-1] > 1:
        numbers.append(numbers[-1] // 2)
    return numbers


def _seems_busy(most: int) -> bool:
    """Whether small operations are slower with all threads than with one less."""
    # no random numbers: those of the run are not to be touched
    one = torch.linspace(-1.0, 1.0, 256 * 256).view(256, 256)

    def rate() -> float:
        began_s, count = time.perf_counter(), 0
        while time.perf_counter() - began_s < _WINDOW_S:
            torch.mm(one, one).relu_().mul_(one)
            count += 1
        return count / (time.perf_counter() - began_s)

    rates: dict[int, list[float]] = {most - 1: [], most: []}
    for _ in range(_NUM_WINDOWS):
        for number, found in rates.items():
            torch.set_num_threads(number)
            found.append(rate())
    return median(rates[most]) < _CLEARLY * median(rates[most - 1])
