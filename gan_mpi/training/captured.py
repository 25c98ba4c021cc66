"""Turns that a device does as one: recorded once, and launched again for every step."""

from collections.abc import Callable
from dataclasses import replace

from gan_mpi.game.host import Graph
from gan_mpi.mpi.comm import Communicator
from gan_mpi.training.state import RunState
from gan_mpi.training.turn import Turn

WARM = 3  # turns before the one that is recorded, which make what stays: states, rows, workspaces


def why_not(comm: Communicator, state: RunState, explains: bool) -> str:
    """Return why turns cannot be captured, "" if they can."""
    if state.game.G.bucket.on_host:
        return "this is for GPUs"
    if comm.world_size > 1:
        return "gradients are summed over ranks within a step"
    if state.config.schedule == "balance":
        return "the host chooses who is trained (--schedule balance)"
    return "each update is shown (--explain)" if explains else ""


class Captured:
    """Plays the turns of a run on a device, and records one as soon as all to come are like it."""

    def __init__(self, state: RunState, make_graph: Callable[[], Graph]) -> None:
        self.state, self.make_graph = state, make_graph
        self.graph: Graph | None = None
        self._steady = 0  # turns so far that were like the next
        self._at = self._step = replace(state.progress)  # where it was recorded; how far it goes

    def play(self, turn: Turn) -> bool:
        """Do what turn.play() does."""
        if self.graph is not None:
            return self._repeat(turn, self.graph)
        if self._steady == WARM:
            return self._record(turn)
        self._steady += self.state.is_steady
        return turn.play()

    def _record(self, turn: Turn) -> bool:
        progress = self.state.progress
        self._at, graph = replace(progress), self.make_graph()
        self.state.host.record(graph, turn.play)  # which says whether to stop in turn.stopping
        moved = {name: value - vars(self._at)[name] for name, value in vars(progress).items()}
        self.graph, self._step = graph, replace(progress, **moved)
        return turn.stopping

    def _repeat(self, turn: Turn, graph: Graph) -> bool:
        progress = self.state.progress
        turn.begin()
        images, latents = progress.images - self._at.images, progress.latents - self._at.latents
        self.state.host.repeat(graph, images, latents)
        progress.advance(**vars(self._step))
        return turn.stop.requested
