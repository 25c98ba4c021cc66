"""What everybody who serves a run needs of it, and what a run trains."""

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
from gan_mpi.training.state import State


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

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.state.progress.step >= self.state.config.steps

    def has_passed(self, before: int, every: int) -> bool:
        """Return whether a multiple of `every` is among the steps since the one `before`."""
        return passed(before, self.state.progress.step, every)

    def pauses_after(self, step: int) -> bool:
        """Return whether a step is followed by a checkpoint, an evaluation or the end."""
        options, evaluates = self.options, self.options.evaluate_every
        return (
            step >= self.state.config.steps
            or passed(step - 1, step, options.checkpoint_every)
            or (evaluates is not None and passed(step - 1, step, evaluates))
        )

    def status_is_due(self, before: int) -> bool:
        """Return whether a status line is due after the steps from `before` on."""
        return self.has_passed(before, self.status_every)


class Ranks(Protocol):
    """What a run trains: ranks as replicas of one model, or as sites."""

    dataset: Dataset
    shared: bool  # whether a node has one copy of the data

    def open(self, device: torch.device, phases: Phases) -> State:
        """Read the data, and return the state that the run starts from.  Collective."""

    def lines(self) -> list[str]:
        """Return what is said of these ranks before the first step."""

    def facts(self) -> Segment:
        """Return what a start's line in segments.jsonl says of how these ranks compute."""

    def advance(self, run: Run) -> bool:
        """Train a step, or a round; return whether to stop.  Collective."""
