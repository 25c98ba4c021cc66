"""What is printed while a run goes on: our status lines, or what an original printed."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gan_mpi.config.presets import PRESETS, CntkLog
from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import TrainConfig
from gan_mpi.config.values import is_ramp
from gan_mpi.runs.stats import Figures, StatsRecord, duration, figure_texts, figures_of

if TYPE_CHECKING:
    from gan_mpi.training.state import State

LINES = 50  # status lines of a run, as many as CNTK's example printed
WIDTH = 100  # columns of a status line
LEGEND = (
    "(G, D: losses; D(x), D(G(z)): mean scores of reals and fakes; comm: share of time "
    "communicating, + hidden)"
)


class LogFormat(Protocol):
    """The lines of a run; `state` is that of the step just done."""

    def interval(self, steps: int) -> int:
        """Return the steps from one record to the next."""

    def header(self) -> list[str]:
        """Return what is printed before the first record."""

    def lines(self, record: StatsRecord, state: "State") -> list[str]:
        """Return what is printed of one record."""

    def closing(self, state: "State", seconds: float, world_size: int) -> list[str]:
        """Return what is printed after the last step."""


class Plain:
    """A status line, some 50 times a run."""

    def interval(self, steps: int) -> int:
        return max(1, steps // LINES)

    def header(self) -> list[str]:
        return [LEGEND]

    def lines(self, record: StatsRecord, state: "State") -> list[str]:
        config = state.config
        steps = config.steps
        left = (steps - record["step"]) * record["seconds_per_step"]
        scheduled = any(
            p.lr_schedule != "constant" or p.warmup or is_ramp(p.lr) for p in (config.G, config.D)
        )
        line = status_line(record, steps, left, scheduled)
        return [line, *point_lines(record), *site_lines(record)]

    def closing(self, state: "State", seconds: float, world_size: int) -> list[str]:
        return []


@dataclass
class Cntk:
    """The lines of CNTK's ProgressPrinter, as one of its programs used it."""

    style: CntkLog

    def interval(self, steps: int) -> int:
        return max(1, steps // self.style.rows)

    def header(self) -> list[str]:
        return [self.style.header] if self.style.header else []

    def lines(self, record: StatsRecord, state: "State") -> list[str]:
        lines = []
        for player in self.style.order:
            last, count = self._minibatches(player, state)
            name = "loss_" if self.style.every_update else "last_loss_"
            if count:
                loss, images = figures_of(record)[name + player], count * state.config.batch
                lines.append(
                    f" Minibatch[{last - count + 1:4d}-{last:4d}]: loss = {loss:0.6f} * {images};"
                )
        return lines

    def _minibatches(self, player: str, state: "State") -> tuple[int, int]:
        """Return the number of the last minibatch that is shown, and how many are."""
        if self.style.every_update:
            progress = state.progress
            last = progress.updates_G if player == "G" else progress.updates_D
            return last, state.window.updates[player]
        return state.progress.step, state.window.counts.get(f"last_loss_{player}", 0)

    def closing(self, state: "State", seconds: float, world_size: int) -> list[str]:
        loss = state.losses.get("loss_G", math.nan)
        ranks = range(world_size if "{rank}" in self.style.closing else 1)
        return [self.style.closing.format(rank=rank, loss=loss, seconds=seconds) for rank in ranks]


class Paddle:
    """The losses of every hundredth iteration, as gan_trainer.py printed them."""

    def interval(self, steps: int) -> int:
        return 100

    def header(self) -> list[str]:
        return []

    def lines(self, record: StatsRecord, state: "State") -> list[str]:
        real, fake, D, G = (
            state.losses.get(f"loss_{name}", math.nan) for name in ("real", "fake", "D", "G")
        )
        return [
            f"d_pos_loss is {real}     d_neg_loss is {fake}",
            f"d_loss is {D}    g_loss is {G}",
        ]

    def closing(self, state: "State", seconds: float, world_size: int) -> list[str]:
        return []


def log_format_of(options: RunConfig, config: TrainConfig) -> LogFormat:
    """Return the format that a run prints in; CNTK's as the preset's original used it."""
    formats: dict[str, LogFormat] = {
        "plain": Plain(),
        "cntk": Cntk(PRESETS[config.preset].cntk_log),
        "paddle": Paddle(),
    }
    return formats[options.log_format]


def status_line(record: StatsRecord, steps: int, seconds_left: float, with_rates: bool) -> str:
    """Return one readable line of at most WIDTH columns about the updates since the last one."""
    hidden = f"+{record['hidden']:.0%}" if "hidden" in record else ""
    parts = [
        f"step {record['step']:{len(str(steps))}d}/{steps}",
        *figure_texts(record),
        f"{record['images_per_second']:.0f} img/s",
        f"comm {record['communication']:.0%}" + hidden,
        f"left {duration(seconds_left)}",
    ]
    if with_rates:
        rates = dict.fromkeys(f"{record[name]:.3g}" for name in ("lr_G", "lr_D"))
        parts.insert(-2, f"lr {'/'.join(rates)}")
    while len("  ".join(parts)) > WIDTH:
        parts.pop(-2)  # what can be read in stats.jsonl
    return "  ".join(parts)


def point_lines(record: StatsRecord) -> list[str]:
    """Return a line about the points that are drawn, if they are points."""
    if "mean" not in record:
        return []
    mean, std = (" ".join(f"{v:.3f}" for v in each) for each in (record["mean"], record["std"]))
    return [f"  points: mean {mean}  std {std}"]


def site_lines(record: StatsRecord) -> list[str]:
    """Return a line for each site of a run of sites, about its last round, and one for all."""
    if "sites" not in record:
        return []

    def line(who: str, figures: Figures) -> str:
        parts = [f"  {who}:"]
        for heading, kind in (("", "loss"), ("validation ", "validation")):
            known = [name for name in "GD" if f"{kind}_{name}" in figures]
            values = [f"{name} {figures[f'{kind}_{name}']:.4f}" for name in known]
            if values:
                parts.append(heading + "  ".join(values))
        return "  ".join(parts)

    lines = [
        line(f"site {rank}, {site['images']} images", site)
        for rank, site in enumerate(record["sites"])
    ]
    whole = line(f"round {record['round']}, all sites", record["all_sites"])
    return [*lines, whole]
