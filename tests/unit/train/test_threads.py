"""kosmos.train.threads, on machines that are simulated."""

import itertools
import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kosmos.runtime import generator
from kosmos.train.threads import _LONGEST_WAIT, ThreadWatch, _fewer, watch_threads

CPU = torch.device("cpu")


class Machine:
    """Some cores, of which others keep some busy; threads that share a core wait for each other."""

    def __init__(self, num_cores: int, *, noise: float = 0.15) -> None:
        self.num_cores, self.noise = num_cores, noise
        self.num_busy = 0
        self.num_threads = num_cores
        self.rng = generator(0, "machine")

    def use(self, number: int) -> None:
        self.num_threads = number

    def step_s(self) -> float:
        """Measured on two cores: .35 with both threads, .5 with one; 3.2 where one core is busy."""
        hurts = self.num_threads > self.num_cores - self.num_busy
        alone = 1.0 / self.num_threads**0.6
        return alone * (4.0 if hurts else 1.0) * self.rng.uniform(1.0, 1.0 + self.noise)


def steps(watch: ThreadWatch, machine: Machine, count: int) -> float:
    """Take steps; their mean time."""
    total = 0.0
    for _ in range(count):
        took_s = machine.step_s()
        watch.after(took_s)
        total += took_s
    return total / count


@pytest.fixture(params=[2, 4, 16])
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(request.param)


def test_a_machine_of_ones_own_is_never_tried_with_fewer_threads(machine: Machine) -> None:
    numbers: list[int] = []
    watch = ThreadWatch(machine.num_cores, use=numbers.append)
    steps(watch, machine, 2000)
    assert numbers == []


def test_with_another_busy_process_a_step_takes_at_most_twice_its_idle_time(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    watch = ThreadWatch(machine.num_cores, use=machine.use)
    idle_s = steps(watch, machine, 50)
    machine.num_busy = 1
    with caplog.at_level(logging.INFO):
        steps(watch, machine, 10)  # noticed in these
        busy_s = steps(watch, machine, 300)
    assert busy_s < 2.0 * idle_s
    assert watch.num == machine.num_cores - 1
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith(f"{watch.num} of {machine.num_cores} threads from here on: ")


def test_all_threads_come_back_when_the_others_are_gone(machine: Machine) -> None:
    watch = ThreadWatch(machine.num_cores, use=machine.use)
    idle_s = steps(watch, machine, 50)
    machine.num_busy = 1
    steps(watch, machine, 400)
    machine.num_busy = 0
    steps(watch, machine, _LONGEST_WAIT + 4)
    assert watch.num == machine.num_threads == machine.num_cores
    assert steps(watch, machine, 300) < 1.05 * idle_s


def test_a_machine_that_is_busy_from_the_start_is_found_so(machine: Machine) -> None:
    machine.num_busy = 1
    watch = ThreadWatch(machine.num_cores, is_suspect=True, use=machine.use)
    steps(watch, machine, 6)
    assert watch.num == machine.num_cores - 1


def test_a_suspicion_that_is_wrong_costs_a_few_steps(machine: Machine) -> None:
    watch = ThreadWatch(machine.num_cores, is_suspect=True, use=machine.use)
    steps(watch, machine, 6)
    assert watch.num == machine.num_cores


def test_half_of_the_cores_may_be_busy() -> None:
    machine = Machine(16)
    watch = ThreadWatch(16, use=machine.use)
    steps(watch, machine, 50)
    machine.num_busy = 9
    steps(watch, machine, 40)
    assert watch.num == 7


def test_what_fewer_threads_do_not_mend_is_tried_less_and_less() -> None:
    numbers: list[int] = []
    watch = ThreadWatch(2, use=numbers.append)
    for cost in [1.0] * 50 + [5.0] * 2000:  # a disk, a slower clock
        watch.after(cost)
    assert watch.num == 2
    assert numbers.count(1) < 2000 / _LONGEST_WAIT + 8


@given(
    st.lists(st.floats(1.0, 1.5), min_size=20, max_size=200),
    st.lists(st.integers(0, 199), max_size=20, unique=True),
)
def test_single_slow_steps_are_no_reason_to_try(costs: list[float], places: list[int]) -> None:
    apart = [place for place in places if place % 4 == 0]
    numbers: list[int] = []
    watch = ThreadWatch(8, use=numbers.append)
    for number, cost in enumerate(costs):
        watch.after(100.0 if number in apart else cost)
    assert numbers == []


@given(st.integers(2, 200))
def test_fewer_are_less_and_less_down_to_one(most: int) -> None:
    numbers = _fewer(most)
    assert numbers[0] == most - 1
    assert numbers[-1] == 1
    assert all(later < sooner for sooner, later in itertools.pairwise(numbers))


def test_a_number_that_somebody_chose_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", pytest.fail)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert watch_threads(CPU, 1).most == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert watch_threads(CPU, 2).most == 1
    assert watch_threads(torch.device("cuda"), 1).most == 1


def test_looking_whether_the_machine_is_busy_leaves_random_numbers_and_threads_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before, state = torch.get_num_threads(), torch.random.get_rng_state()
    try:
        torch.set_num_threads(2)
        watch = watch_threads(CPU, 1)
        assert (watch.most, torch.get_num_threads()) == (2, 2)
        assert torch.equal(torch.random.get_rng_state(), state)
    finally:
        torch.set_num_threads(before)
