"""What every rank does in each update, said to people who learn how parallel training works."""

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from torch import nn

from gan_mpi.clock import between
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.average import Averages
from gan_mpi.parallel.bucket import Sums
from gan_mpi.runs.log import Log
from gan_mpi.training.state import RunState
from gan_mpi.training.supply import Supply
from gan_mpi.training.turn import NoteMeans, Turn

SHOWN = ("loss_real", "D_real", "loss_fake", "D_fake", "loss_G", "error_G")
NAMED = 3  # indices of images of a share


@dataclass(frozen=True)
class Part:
    """What one rank did in an update: sums by the names of game/updates.py, seconds by phase."""

    share: str
    sums: dict[str, float]
    seconds: dict[str, float]
    weights: str  # afterwards, the beginning of their SHA-256


class Watch:
    """The last sums of a run's buckets: this rank's, and those of all."""

    mine: Sums
    total: Sums

    def __init__(self, state: RunState) -> None:
        """Observe the buckets of both players."""
        for bucket in (state.game.G.bucket, state.game.D.bucket):
            bucket.observer = self

    def __call__(self, mine: Sums, total: Sums) -> None:
        self.mine, self.total = mine, total


class ExplainedTurn(Turn):
    """A turn that says what each rank did in every update."""

    def __init__(
        self,
        comm: Communicator,
        state: RunState,
        supply: Supply,
        stop: StopRequest,
        log: Log,
        watch: Watch,
    ) -> None:
        super().__init__(comm, state, supply, stop)
        self.log, self.watch = log, watch
        self._start_clock()

    def _start_clock(self) -> None:
        self.began, self.seconds = time.perf_counter(), self.comm.clock.seconds()

    def finish_update(self, name: str, averages: Averages, note: NoteMeans) -> None:
        """Update a player, and say what led to it.  Collective."""
        super().finish_update(name, averages, note)
        spent = between(self.seconds, self.comm.clock.seconds())
        named = {
            "batch norm's sums": spent["batch_norm_sums"],
            "Allreduce": spent["communication"],
            "update": spent["optimizer"],
        }
        others = time.perf_counter() - self.began - sum(named.values())
        player = self.state.game.G if name == "G" else self.state.game.D
        row = int(np.abs(self.watch.total.gradients).argmax())
        part = Part(
            share=self._share(averages.names),
            sums=_sums(self.watch.mine, row),
            seconds={
                phase: seconds
                for phase, seconds in {"forward and backward": others, **named}.items()
                if seconds > 0
            },
            weights=_digest(player.network),
        )
        parts = self.comm.gather(part)
        self.comm.on_root(lambda: self._say(name, player.network, row, parts))
        self._start_clock()

    def _share(self, means: Collection[str]) -> str:
        """Say what this rank's part of the last batch is, of what led to these figures."""
        progress, batch = self.state.progress, self.state.config.batch
        feed = self.supply.feed
        lo, hi = feed.lo, feed.hi
        if lo == hi:
            return "nothing: there are more ranks than images in a batch"
        parts = []
        if "loss_real" in means:
            first = progress.images - batch
            rows = feed.rows(first, lo, hi)
            named = ", ".join(map(str, rows[:NAMED])) + ", ..." * (len(rows) > NAMED)
            span = f"{first + lo} to {first + hi - 1}"
            parts.append(f"real images {span} (in the file {named})")
        if {"loss_fake", "loss_G"} & set(means):
            first = progress.latents - batch
            parts.append(f"latents {first + lo} to {first + hi - 1}")
        return ", ".join(parts)

    def _say(self, name: str, network: nn.Module, row: int, parts: list[Part]) -> None:
        batch, whole = self.state.config.batch, self.watch.total
        total = _sums(whole, row)
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
        lines.append(
            f"  gradient: of {_parameter(name, network, row)}, one of "
            f"{len(whole.gradients)} numbers; one Allreduce of {whole.nbytes} bytes"
        )
        for rank, part in enumerate(parts):
            spent = ", ".join(f"{p} {1000 * s:.1f} ms" for p, s in part.seconds.items())
            lines.append(f"  rank {rank}: {spent}; {name} is now {part.weights}")
        for line in lines:
            self.log.line(line)


def _sums(sums: Sums, row: int) -> dict[str, float]:
    """Return sums by name, their count, and one number of the gradient."""
    return {**sums.sums, "count": sums.count, "gradient": float(sums.gradients[row])}


def _parameter(name: str, network: nn.Module, row: int) -> str:
    """Return the name of a number of a network, such as D.2.bias[0]."""
    for key, parameter in network.named_parameters():
        if row < parameter.numel():
            at = np.unravel_index(row, parameter.shape)
            return f"{name}.{key}[{', '.join(map(str, at))}]"
        row -= parameter.numel()
    raise IndexError(row)


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for parameter in network.parameters():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:8]
