"""Turns that a device does as one: recorded once, and launched again for every step."""

from dataclasses import replace

from gan_mpi.clock import HERE
from gan_mpi.game.host import Graph
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.batch_norm import forget_statistics
from gan_mpi.runs.log import warn
from gan_mpi.training.progress import Begun
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
    if state.config.penalty_every > 1:
        return "not every update has penalties (--penalty-every)"
    return "each update is shown (--explain)" if explains else ""


class Captured:
    """Plays the turns of a run on a device, and records one as soon as all to come are like it."""

    def __init__(self, state: RunState, graph: Graph) -> None:
        self.state = state
        self.graph: Graph | None = graph  # none: it could not record
        self.is_recorded = False
        self._steady = 0  # turns so far that were like the next
        self._at = self._step = replace(state.progress)  # where it was recorded; how far it goes

    def play(self, turn: Turn) -> bool:
        """Do what turn.play() does."""
        if self.graph is None:
            return turn.play()
        if self.is_recorded:
            return self._launch(turn, self.graph)
        if self._steady == WARM:
            return self._record(turn, self.graph)
        self._steady += self.state.is_steady
        if self._steady == WARM:
            return self.graph.warm(lambda: self.state.host.rehearse(turn.play))
        return self.graph.warm(turn.play)

    def _record(self, turn: Turn, graph: Graph) -> bool:
        progress = self.state.progress
        self._at = replace(progress)
        try:
            self.state.host.record(graph, turn.play)
        except RuntimeError as error:
            return self._give_up(turn, error)
        moved = {name: value - vars(self._at)[name] for name, value in vars(progress).items()}
        self.is_recorded, self._step = True, replace(progress, **moved)
        return turn.stopping

    def _give_up(self, turn: Turn, error: RuntimeError) -> bool:
        """Play a turn that could not be recorded, of which nothing has been done."""
        reason = str(error.__context__ or error).strip().splitlines()[:1]
        warn(f"--graphs: this device cannot record a step ({''.join(reason)}); it goes on without")
        self.graph, state = None, self.state
        vars(state.progress).update(vars(self._at))
        state.begun = Begun()
        turn.supply.forget()
        for player in (state.game.G, state.game.D):
            forget_statistics(player.network)
            player.network.requires_grad_(True)
        if state.replay is not None:
            state.replay.forget()
        return Turn(turn.comm, state, turn.supply, turn.stop, turn.pauses).play()

    def _launch(self, turn: Turn, graph: Graph) -> bool:
        progress = self.state.progress
        turn.begin()
        HERE.begin_update(progress.step + 1, "D", progress.updates_D + 1)  # and all of the turn
        images, latents = progress.images - self._at.images, progress.latents - self._at.latents
        with turn.comm.clock.phase("data"):
            self.state.host.prepare(images, latents)
        graph.replay()
        self.state.host.conclude()
        progress.advance(**vars(self._step))
        return turn.stop.requested
