"""What every rank does in each update, said to people who learn how parallel training works."""

import hashlib
import time
from dataclasses import dataclass

import numpy as np

from gan_mpi.game.players import Player
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.bucket import Averages
from gan_mpi.runs.log import Log
from gan_mpi.training.feed import Feed
from gan_mpi.training.state import RunState
from gan_mpi.training.turn import Turn

SHOWN = ("loss_real", "D_real", "loss_fake", "D_fake", "loss_G", "error_G")
NAMED = 3  # indices of images of a share


class Witness(Communicator):
    """A communicator that remembers the last sum: this rank's part, the total, and when it was."""

    def __init__(self, comm: Communicator) -> None:
        """Span the ranks of another communicator.  Collective."""
        super().__init__(comm.mpi, comm.node)
        self.others = comm  # sums of batch norm go on through it
        self.mine = self.total = np.empty(0)
        self.began = self.ended = self.seconds_before = 0.0

    def sum_in_place(self, array: np.ndarray) -> None:
        self.mine, self.seconds_before = array.copy(), self.others.seconds
        self.began = time.perf_counter()
        self.others.sum_in_place(array)
        self.ended = time.perf_counter()
        self.total = array.copy()


@dataclass(frozen=True)
class Part:
    """What one rank did in an update; `sums` are by the names of step.py, `seconds` by phase."""

    share: str
    sums: dict[str, float]
    seconds: dict[str, float]
    weights: str  # afterwards, the beginning of their SHA-256


class Explainer:
    """Takes steps as take_step does, and says what each rank did in every update of them."""

    def __init__(self, comm: Communicator, log: Log) -> None:
        """Make ready.  Collective."""
        self.witness, self.log = Witness(comm), log

    def take_step(self, comm: Communicator, state: RunState, feed: Feed, stop: StopRequest) -> bool:
        """Do one turn of the schedule; return whether to stop.  Collective."""
        return ExplainedTurn(self.witness, state, feed, stop, self.log).play()


class ExplainedTurn(Turn):
    """A turn whose gradients are summed by a witness."""

    def __init__(
        self,
        witness: Witness,
        state: RunState,
        feed: Feed,
        stop: StopRequest,
        log: Log,
    ) -> None:
        super().__init__(witness, state, feed, stop)
        self.witness, self.log = witness, log
        self._start_clocks()

    def _start_clocks(self) -> None:
        self.began, self.seconds = time.perf_counter(), self.witness.others.seconds

    def finish_update(self, name: str, averages: Averages) -> dict[str, float]:
        """Update a player, and say what led to it.  Collective."""
        means = super().finish_update(name, averages)
        player = self.state.game.G if name == "G" else self.state.game.D
        witness = self.witness
        normed = witness.seconds_before - self.seconds
        seconds = {
            "forward and backward": witness.began - self.began - normed,
            "batch norm's sums": normed,
            "Allreduce": witness.ended - witness.began,
            "update": time.perf_counter() - witness.ended,
        }
        row = _largest(player, witness.total)
        part = Part(
            share=self._share(means),
            sums=_sums(player, witness.mine, list(means), row),
            seconds={phase: spent for phase, spent in seconds.items() if spent > 0},
            weights=_digest(player),
        )
        total = _sums(player, witness.total, list(means), row)
        parts = self.comm.gather(part)
        if self.comm.is_root:
            self._say(name, player, row, parts, total)
        self._start_clocks()
        return means

    def _share(self, means: dict[str, float]) -> str:
        """Say what this rank's part of the last batch is, of what led to these figures."""
        progress, batch = self.state.progress, self.state.config.batch
        lo, hi = self.feed.lo, self.feed.hi
        if lo == hi:
            return "nothing: there are more ranks than images in a batch"
        parts = []
        if "loss_real" in means:
            first = progress.images - batch
            rows = self.feed.order.indices(first + lo, first + hi)
            named = ", ".join(map(str, rows[:NAMED])) + ", ..." * (len(rows) > NAMED)
            span = f"{first + lo} to {first + hi - 1}"
            parts.append(f"real images {span} (in the file {named})")
        if means.keys() & {"loss_fake", "loss_G"}:
            first = progress.latents - batch
            parts.append(f"latents {first + lo} to {first + hi - 1}")
        return ", ".join(parts)

    def _say(
        self,
        name: str,
        player: Player,
        row: int,
        parts: list[Part],
        total: dict[str, float],
    ) -> None:
        batch = self.state.config.batch
        kinds = {"loss_real": "real images", "loss_fake": "fakes", "loss_G": "fakes"}
        what = ", ".join(f"{batch} {kinds[key]}" for key in kinds if key in total)
        lines = [f"step {self.state.progress.step + 1}: {name} learns from {what}"]
        lines += [f"  rank {rank}: {part.share}" for rank, part in enumerate(parts)]
        shown = [key for key in ("count", *SHOWN, "gradient") if key in total]
        lines.append(f"  {'':15}" + "".join(f"{key:>12}" for key in shown))
        rows = {f"sum of rank {rank}": part.sums for rank, part in enumerate(parts)}
        rows["sum of all"] = total
        rows["mean"] = {key: total[key] / total["count"] for key in total}
        for legend, sums in rows.items():
            cells = "".join(f"{sums[key]:12.6g}" for key in shown)
            lines.append(f"  {legend:15}{cells}")
        sent = self.witness.total.nbytes
        lines.append(
            f"  gradient: of {_parameter(name, player, row)}, one of "
            f"{len(player.bucket.gradients)} numbers; one Allreduce of {sent} bytes"
        )
        for rank, part in enumerate(parts):
            spent = ", ".join(f"{p} {1000 * s:.1f} ms" for p, s in part.seconds.items())
            lines.append(f"  rank {rank}: {spent}; {name} is now {part.weights}")
        for line in lines:
            self.log.line(line)


def _sums(player: Player, buffer: np.ndarray, names: list[str], row: int) -> dict[str, float]:
    """Return the sums in a bucket's buffer, its count, and one number of the gradient."""
    size = len(player.bucket.gradients)
    sums = dict(zip(names, buffer[size:].tolist(), strict=False))
    return {**sums, "count": float(buffer[-3]), "gradient": float(buffer[row])}


def _largest(player: Player, buffer: np.ndarray) -> int:
    """Return where the gradient is largest."""
    return int(np.abs(buffer[: len(player.bucket.gradients)]).argmax())


def _parameter(name: str, player: Player, row: int) -> str:
    """Return the name of a number of a network, such as D.2.bias[0]."""
    for key, parameter in player.network.named_parameters():
        if row < parameter.numel():
            at = np.unravel_index(row, parameter.shape)
            return f"{name}.{key}[{', '.join(map(str, at))}]"
        row -= parameter.numel()
    raise IndexError(row)


def _digest(player: Player) -> str:
    digest = hashlib.sha256()
    for parameter in player.network.parameters():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:8]
