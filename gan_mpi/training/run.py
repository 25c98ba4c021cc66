"""What everybody who serves a run needs of it, and what a run trains."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from gan_mpi.config.running import RunConfig
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.runs.log import Log
from gan_mpi.runs.segments import Segment
from gan_mpi.training.progress import passed
from gan_mpi.training.state import RunState, State

FIRST_STEPS = 10  # after which a start that saves by cost saves first, and knows it


class Saves:
    """When checkpoints are due: every so many steps, or by what they cost."""

    def __init__(self, every: int | str, step: int, owed: bool = False) -> None:
        """`every` are steps, or "auto"; `step` is the last that was done.

        If one is `owed` it is due after the next step.
        """
        self._every = every if isinstance(every, int) else None
        self._next = step + FIRST_STEPS
        self._owed = step + 1 if owed else None

    @property
    def by_cost(self) -> bool:
        """Whether plan() decides."""
        return self._every is None

    def is_due(self, before: int, step: int) -> bool:
        """Return whether one is due after the steps from `before` on up to `step`."""
        if step == self._owed:
            return True
        if self._every is None:
            return step >= self._next
        return passed(before, step, self._every)

    def plan(self, step: int, steps: int) -> None:
        """Let the next be due so many steps after `step`."""
        self._next = step + max(1, steps)


def best_interval(cost: float, mtbf: float) -> float:
    """Return the seconds between checkpoints that lose least, of any number of seconds each.

    `cost` are the seconds that a checkpoint takes from training, `mtbf` those between failures of
    the whole job.  Source: J. T. Daly, A higher order estimate of the optimum checkpoint interval
    for restart dumps, Future Generation Computer Systems 22 (2006), equation 37.
    """
    if cost >= 2 * mtbf:
        return mtbf
    ratio = math.sqrt(cost / (2 * mtbf))
    return math.sqrt(2 * cost * mtbf) * (1 + ratio / 3 + ratio**2 / 9) - cost


@dataclass(frozen=True)
class Run:
    """A run that is open: its ranks, options, state, data, and where it writes and speaks."""

    comm: Communicator
    options: RunConfig
    state: State
    dataset: Dataset  # this rank's
    log: Log
    directory: Path
    stop: StopRequest
    status_every: int  # steps between status lines
    saves: Saves

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.state.progress.step >= self.state.config.steps

    def has_passed(self, before: int, every: int) -> bool:
        """Return whether a multiple of `every` is among the steps since the one `before`."""
        return passed(before, self.state.progress.step, every)

    def pauses_after(self, step: int) -> bool:
        """Return whether a step is followed by a checkpoint, an evaluation or the end."""
        evaluates = self.options.evaluate_every
        return (
            step >= self.state.config.steps
            or self.saves.is_due(step - 1, step)
            or (evaluates is not None and passed(step - 1, step, evaluates))
        )

    def save_is_due(self, before: int) -> bool:
        """Return whether a checkpoint is due after the steps from `before` on."""
        return self.saves.is_due(before, self.state.progress.step)

    def status_is_due(self, before: int) -> bool:
        """Return whether a status line is due after the steps from `before` on."""
        return self.has_passed(before, self.status_every)


class Ranks(Protocol):
    """What a run trains: ranks as replicas of one model, or as sites."""

    dataset: Dataset
    shared: bool  # whether a node has one copy of the data

    @property
    def survivor(self) -> RunState | None:
        """The state that ranks go on from without one that is gone, None if they do not."""

    def open(self, device: torch.device, phases: Phases) -> State:
        """Read the data, and return the state that the run starts from.  Collective."""

    def lines(self) -> list[str]:
        """Return what is said of these ranks before the first step."""

    def facts(self) -> Segment:
        """Return what a start's line in segments.jsonl says of how these ranks compute."""

    def close(self) -> None:
        """Draw nothing more of the data."""

    def advance(self, run: Run) -> bool:
        """Train a step, or a round; return whether to stop.  Collective."""
