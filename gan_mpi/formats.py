"""What is printed while a run goes on: our status lines, or what an original printed."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from gan_mpi import stats
from gan_mpi.presets import CntkLog
from gan_mpi.state import RunState


class Format(Protocol):
    """The lines of a run; `state` is that of the step just done."""

    def interval(self, steps: int) -> int:
        """Return the steps from one record to the next."""

    def header(self) -> list[str]:
        """Return what is printed before the first record."""

    def lines(self, record: dict[str, Any], state: RunState) -> list[str]:
        """Return what is printed of one record."""

    def closing(self, state: RunState, seconds: float, world_size: int) -> list[str]:
        """Return what is printed after the last step."""


class Plain:
    """A status line, some 50 times a run."""

    def interval(self, steps: int) -> int:
        return max(1, steps // stats.LINES)

    def header(self) -> list[str]:
        return [stats.LEGEND]

    def lines(self, record: dict[str, Any], state: RunState) -> list[str]:
        steps = state.config.steps
        left = (steps - record["step"]) * record["seconds_per_step"]
        return [stats.status_line(record, steps, left), *stats.site_lines(record)]

    def closing(self, state: RunState, seconds: float, world_size: int) -> list[str]:
        return []


@dataclass
class Cntk:
    """The lines of CNTK's ProgressPrinter, as one of its programs used it."""

    style: CntkLog

    def interval(self, steps: int) -> int:
        return max(1, steps // self.style.rows)

    def header(self) -> list[str]:
        return [self.style.header] if self.style.header else []

    def lines(self, record: dict[str, Any], state: RunState) -> list[str]:
        lines = []
        for player in self.style.order:
            last, count = self._minibatches(player, state)
            name = "loss_" if self.style.every_update else "last_loss_"
            if count:
                loss, images = record[name + player], count * state.config.batch
                lines.append(
                    f" Minibatch[{last - count + 1:4d}-{last:4d}]: loss = {loss:0.6f} * {images};"
                )
        return lines

    def _minibatches(self, player: str, state: RunState) -> tuple[int, int]:
        """Return the number of the last minibatch that is shown, and how many are."""
        if self.style.every_update:
            progress = state.progress
            last = progress.updates_G if player == "G" else progress.updates_D
            return last, state.window.updates[player]
        return state.progress.step, state.window.counts.get(f"last_loss_{player}", 0)

    def closing(self, state: RunState, seconds: float, world_size: int) -> list[str]:
        loss = state.losses.get("loss_G", math.nan)
        ranks = range(world_size if "{rank}" in self.style.closing else 1)
        return [
            self.style.closing.format(rank=rank, loss=loss, seconds=seconds)
            for rank in ranks
        ]


class Paddle:
    """The losses of every hundredth iteration, as gan_trainer.py printed them."""

    def interval(self, steps: int) -> int:
        return 100

    def header(self) -> list[str]:
        return []

    def lines(self, record: dict[str, Any], state: RunState) -> list[str]:
        real, fake, D, G = (
            state.losses.get(f"loss_{name}", math.nan)
            for name in ("real", "fake", "D", "G")
        )
        return [
            f"d_pos_loss is {real}     d_neg_loss is {fake}",
            f"d_loss is {D}    g_loss is {G}",
        ]

    def closing(self, state: RunState, seconds: float, world_size: int) -> list[str]:
        return []


def make_format(name: str, cntk: CntkLog) -> Format:
    """Return the format of a name; `cntk` is how the preset's original used CNTK's."""
    formats: dict[str, Format] = {
        "plain": Plain(),
        "cntk": Cntk(cntk),
        "paddle": Paddle(),
    }
    return formats[name]
