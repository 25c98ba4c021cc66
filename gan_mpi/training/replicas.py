"""Ranks as replicas of one model, which average the gradients of every update."""

import torch

from gan_mpi.datasets.dataset import Dataset
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.data import share_dataset
from gan_mpi.training.build import build_state
from gan_mpi.training.explain import ExplainedTurn, Watch
from gan_mpi.training.feed import Feed
from gan_mpi.training.run import Run
from gan_mpi.training.start import Start
from gan_mpi.training.state import RunState
from gan_mpi.training.turn import Turn


class Replicas:
    """All ranks hold the same networks, and each trains on its share of every batch."""

    dataset: Dataset
    shared: bool
    state: RunState

    def __init__(self, comm: Communicator, start: Start) -> None:
        self.comm, self.start = comm, start
        self.watch: Watch | None = None  # if turns are explained

    def open(self, device: torch.device, phases: Phases) -> RunState:
        """Read the data once a node, and return the state, alike on all ranks.  Collective."""
        comm, start = self.comm, self.start
        self.dataset, self.shared = share_dataset(comm, start.source)
        phases.end("data")
        self.state = comm.alike(lambda: build_state(comm, start, self.dataset, device))
        self.feed = Feed(comm, self.state, self.dataset, device)
        phases.end("networks")
        return self.state

    def lines(self) -> list[str]:
        """Say when the result depends on the number of ranks."""
        if self.start.config.batch_norm == "global" or self.comm.world_size == 1:
            return []
        number = f"here {self.comm.world_size}"
        return [f"batch norm is local: the result depends on the number of ranks, {number}."]

    def advance(self, run: Run) -> bool:
        """Do one turn of the schedule; return whether to stop.  Collective."""
        turn = run.comm, self.state, self.feed, run.stop
        if not run.options.explain:
            return Turn(*turn).play()
        self.watch = self.watch or Watch(self.state)
        return ExplainedTurn(*turn, run.log, self.watch).play()
