"""The time of a step, and of each phase of it."""

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from gan_mpi.arrays import Array
from gan_mpi.clock import between
from gan_mpi.cluster.memory import keep_freed_memory, return_freed_memory
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.training.replicas import Replicas
from gan_mpi.training.start import Start
from gan_mpi.training.turn import Turn

WARM = 3  # steps that do not count
LEAST = 10  # steps that do
OTHER = "other"  # no phase's, and what the mean over ranks is shorter than the slowest


@dataclass(frozen=True)
class Timing:
    """Steps that were timed."""

    ranks: int
    nodes: int
    threads: int  # of each rank
    batch: int
    images: float  # of a step, over all ranks: real ones, or fakes where only G is trained
    seconds: list[float]  # of each step, or each few steps

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Seconds that a quarter, and three quarters, of the steps stay below."""
        low, high = np.quantile(self.seconds, [0.25, 0.75]).tolist()
        return low, high

    @property
    def images_per_second(self) -> float:
        """`images` over all ranks."""
        return self.images / self.median

    @property
    def node_hours(self) -> float:
        """Hours of nodes that a million images take."""
        return 1e6 / self.images_per_second * self.nodes / 3600


@dataclass(frozen=True)
class Steps(Timing):
    """Steps of a Stage; each is as long as on the rank that took longest."""

    phases: dict[str, list[float]]  # seconds of each step by phase, the mean over ranks
    hidden: list[float]  # seconds of each step that sums went on while ranks computed, as phases
    messages: list[int]  # bytes of each sum over ranks in a step


@dataclass(frozen=True)
class Timed:
    """What one rank took for a step."""

    seconds: float
    phases: Mapping[str, float]
    hidden: float


class Stage:
    """A game on the ranks of `comm` that can be played on, without a run directory."""

    def __init__(self, comm: Communicator, start: Start, device: torch.device) -> None:
        """Read the data and make the networks.  Collective."""
        keep_freed_memory()
        self.comm, self.ranks = comm, Replicas(comm, start)
        self.state = self.ranks.open(device, Phases())
        return_freed_memory()  # that reading took
        self.stop = StopRequest()

    def step(self) -> None:
        """Do one turn of the schedule.  Collective."""
        self.ranks.play(Turn(self.comm, self.state, self.ranks.supply, self.stop))
        self.state.settle()  # the step ends when a device has done it

    @property
    def period(self) -> int:
        """The number of steps after which updates of D have penalties as before."""
        every, updates = self.state.config.penalty_every, self.state.config.turn.count("D")
        return every // math.gcd(every, updates) if updates else 1

    def time(self, seconds: float) -> Steps:
        """Time as many steps as go into so many seconds, at least LEAST.  Collective.

        Where not all are alike, they are timed by `period`, of which there are at least WARM.
        """
        trial = [self._timed().seconds for _ in range(WARM)]
        _, longest = self.comm.extremes(np.array([min(trial)]))
        least = max(WARM, LEAST // self.period)
        count = max(least, int(seconds / longest[0] / self.period))
        mine = [self._timed() for _ in range(count)]
        everyone = self.comm.allgather(mine)
        steps = list(zip(*everyone, strict=True))  # of each step, what each rank took
        slowest = [max(each.seconds for each in step) for step in steps]
        phases = {
            name: [statistics.mean(each.phases[name] for each in step) for step in steps]
            for name in mine[0].phases
        }
        named = [sum(parts) for parts in zip(*phases.values(), strict=True)]
        phases[OTHER] = [s - part for s, part in zip(slowest, named, strict=True)]
        config = self.state.config
        return Steps(
            ranks=self.comm.world_size,
            nodes=self.comm.node_count,
            threads=torch.get_num_threads(),
            batch=config.batch,
            images=config.images_counted,
            seconds=slowest,
            phases=phases,
            hidden=[statistics.mean(each.hidden for each in step) for step in steps],
            messages=self._messages(),
        )

    def _messages(self) -> list[int]:
        """Return the bytes of the sums of a step.  Collective."""
        found: list[int] = []
        self.comm.messages = found
        self.step()
        self.comm.messages = None
        return found

    def _timed(self) -> Timed:
        clock, under_way = self.comm.clock, self.comm.under_way
        began, before, hidden = time.perf_counter(), clock.seconds(), under_way.hidden
        steps = self.period
        for _ in range(steps):
            self.step()
        seconds, phases = time.perf_counter() - began, between(before, clock.seconds())
        of_step = {name: spent / steps for name, spent in phases.items()}
        return Timed(seconds / steps, of_step, (under_way.hidden - hidden) / steps)


def far_allreduce_times(comm: Communicator, sizes: list[int]) -> list[float]:
    """Return what allreduce_times() does, of two ranks on two nodes if there are.  Collective."""
    pair = comm.far_pair()
    found = None if pair is None else allreduce_times(pair, sizes)
    comm.barrier()  # asleep, while the two do it
    return comm.broadcast(found or [])


def allreduce_times(comm: Communicator, sizes: list[int]) -> list[float]:
    """Return the seconds that the sum of so many float32 takes, by size.  Collective.

    The median of calls one after the other, on the rank where it is longest.
    """
    found = []
    for size in sizes:
        array: Array = np.ones(size, dtype=np.float32)
        seconds = []
        for _ in range(max(10, min(200, 4_000_000 // size))):
            array.fill(1.0)
            began = time.perf_counter()
            comm.sum_in_place(array)
            seconds.append(time.perf_counter() - began)
        found.append(statistics.median(seconds))
    _, longest = comm.extremes(np.array(found))
    return longest.tolist()
