"""Ranks as replicas of one model, which average the gradients of every update."""

import torch

from gan_mpi.cluster.device import graph_of, room_for_data
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.errors import invalid_value
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.data import share_dataset
from gan_mpi.parallel.replicas import Mirror, compute_alike
from gan_mpi.parallel.staging import require_direct_sums
from gan_mpi.runs.segments import Segment
from gan_mpi.training.build import build_state
from gan_mpi.training.captured import WARM, Captured, why_not
from gan_mpi.training.explain import ExplainedTurn, Watch
from gan_mpi.training.feed import Feed
from gan_mpi.training.run import Run
from gan_mpi.training.start import Start
from gan_mpi.training.state import RunState
from gan_mpi.training.supply import Supply
from gan_mpi.training.turn import Turn


class Replicas:
    """All ranks hold the same networks, and each trains on its share of every batch."""

    dataset: Dataset
    shared: bool
    state: RunState

    def __init__(self, comm: Communicator, start: Start) -> None:
        self.comm, self.start = comm, start
        self.watch: Watch | None = None  # if turns are explained
        self.captured: Captured | None = None  # if a device does each as one

    @property
    def survivor(self) -> RunState | None:
        """The state that the others go on from if one is gone, if they do."""
        return self.state if self.start.survives else None

    def open(self, device: torch.device, phases: Phases) -> RunState:
        """Read the data once a node, and return the state, alike on all ranks.  Collective."""
        comm, start, self.device = self.comm, self.start, device
        if start.cuda_aware:
            require_direct_sums(comm, device)
        if start.dataset is None:
            self.dataset, self.shared = share_dataset(comm, start.source)
        else:
            self.dataset, self.shared = start.dataset, True
        phases.end("data")
        self.state = comm.alike(lambda: build_state(comm, start, self.dataset, device))
        self.mirrored = not compute_alike(comm, device)
        self.state.keeps_marks = start.survives and comm.world_size > 1
        if start.saved is not None:
            self.state.mark()
        if self.mirrored:
            comm.alike(lambda: _require_no_survivors(start))
            _mirror(comm, self.state)
        parts = start.micro_batch
        room = room_for_data(device, comm.local_size)
        feed = Feed(comm, self.state, self.dataset, device, micro_batch=parts, room=room)
        how = start.overlap, start.explains, start.cuda_aware
        self.supply = Supply(comm, self.state.game, feed, *how)
        self.not_captured = why_not(comm, self.state, start.explains)
        if start.graphs and not self.not_captured:
            self.captured = Captured(self.state, graph_of(device))
        phases.end("networks")
        return self.state

    def lines(self) -> list[str]:
        """Say what of the ranks is not as usual."""
        lines = []
        if self.start.config.batch_norm == "local" and self.comm.world_size > 1:
            number = f"here {self.comm.world_size}"
            lines.append(
                f"batch norm is local: the result depends on the number of ranks, {number}."
            )
        if self.start.micro_batch is not None:
            lines.append(
                f"shares pass through the networks in parts of at most {self.start.micro_batch} "
                "images, whose sums are added."
            )
        if self.start.rollbacks:
            lines.append(f"random numbers are those after {self.start.rollbacks} rollback(s).")
        lines += self.start.about_linear if self.device.type == "cpu" else []
        lines += self.supply.feed.about()
        overlap = self.supply.overlap
        if overlap.why_not and self.start.overlap is not False:
            lines.append(f"ranks wait while gradients are summed: {overlap.why_not}.")
        elif overlap.hides:
            lines.append(
                "the next update begins while gradients are summed"
                + "".join(f", but for what {player} computes" for player in overlap.blocked)
                + "."
            )
        if self.start.cuda_aware and overlap.in_pieces:
            lines.append("MPI reads gradients in the GPUs' memory, and sums them there.")
        if self.captured is not None:
            lines.append(f"after {WARM} steps one is recorded, and launched for each that follows.")
        elif self.start.graphs:
            lines.append(f"steps are not recorded: {self.not_captured}.")
        if self.mirrored:
            lines.append(
                "the ranks' processors do not compute alike: after every update all get the "
                "weights and the optimizer's state of rank 0, which takes time."
            )
        return lines

    def facts(self) -> Segment:
        """Say what decides the last bits besides numbers of ranks and versions."""
        facts = Segment()
        if self.start.micro_batch is not None:
            facts["micro_batch"] = self.start.micro_batch
        if self.supply.overlap.in_pieces:
            facts["pieces"] = True
        if self.start.cuda_aware and self.supply.overlap.in_pieces:
            facts["cuda_aware"] = True
        return facts

    def close(self) -> None:
        """Draw nothing more of the data."""
        self.supply.feed.close()

    def advance(self, run: Run) -> bool:
        """Do one turn of the schedule; return whether to stop.  Collective."""
        turn = run.comm, self.state, self.supply, run.stop
        if not run.options.explain:
            return self.play(Turn(*turn, run.pauses_after(self.state.progress.step + 1)))
        self.watch = self.watch or Watch(self.state)
        return ExplainedTurn(*turn, run.log, self.watch).play()

    def play(self, turn: Turn) -> bool:
        """Play a turn; return whether to stop.  Collective."""
        return turn.play() if self.captured is None else self.captured.play(turn)


def _require_no_survivors(start: Start) -> None:
    """Raise UserError if ranks shall go on without others, whose updates end by root's weights."""
    if start.survives:
        raise invalid_value(
            "on_failure",
            "the ranks' processors do not compute alike, and a rank may be lost "
            "within an update; choose like nodes, or leave it out",
        )


def _mirror(comm: Communicator, state: RunState) -> None:
    """Let every update of a player end with root's networks and optimizer on all ranks."""
    game = state.game
    averaged = [] if state.ema is None else [state.ema.network]
    G, D = game.G, game.D
    G.after_update.append(Mirror(comm, [G.network, *averaged], G.optimizer, D.network))
    D.after_update.append(Mirror(comm, [D.network], D.optimizer, G.network))
