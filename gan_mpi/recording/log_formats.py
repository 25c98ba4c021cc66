"""What is printed while a run goes on: our status lines, or what an original printed."""

import math
from dataclasses import dataclass
from typing import Protocol

from gan_mpi.config.presets import PRESETS, CntkLog
from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import TrainConfig
from gan_mpi.runs.stats import Figures, StatsRecord, duration, figures_of
from gan_mpi.training.state import State

LINES = 50  # status lines of a run, as many as CNTK's example printed
ERRORS = ("error_real", "error_fake", "error_G")
LEGEND = (
    "(G, D: losses; D(x), D(G(z)): mean scores of reals and fakes; err: reals/fakes that D takes "
    "for the other, and fakes that G fails to pass off as real; lr: of G/D; comm: share of the "
    "time)"
)


class LogFormat(Protocol):
    """The lines of a run; `state` is that of the step just done."""

    def interval(self, steps: int) -> int:
        """Return the steps from one record to the next."""

    def header(self) -> list[str]:
        """Return what is printed before the first record."""

    def lines(self, record: StatsRecord, state: State) -> list[str]:
        """Return what is printed of one record."""

    def closing(self, state: State, seconds: float, world_size: int) -> list[str]:
        """Return what is printed after the last step."""


class Plain:
    """A status line, some 50 times a run."""

    def interval(self, steps: int) -> int:
        return max(1, steps // LINES)

    def header(self) -> list[str]:
        return [LEGEND]

    def lines(self, record: StatsRecord, state: State) -> list[str]:
        steps = state.config.steps
        left = (steps - record["step"]) * record["seconds_per_step"]
        return [status_line(record, steps, left), *site_lines(record)]

    def closing(self, state: State, seconds: float, world_size: int) -> list[str]:
        return []


@dataclass
class Cntk:
    """The lines of CNTK's ProgressPrinter, as one of its programs used it."""

    style: CntkLog

    def interval(self, steps: int) -> int:
        return max(1, steps // self.style.rows)

    def header(self) -> list[str]:
        return [self.style.header] if self.style.header else []

    def lines(self, record: StatsRecord, state: State) -> list[str]:
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

    def _minibatches(self, player: str, state: State) -> tuple[int, int]:
        """Return the number of the last minibatch that is shown, and how many are."""
        if self.style.every_update:
            progress = state.progress
            last = progress.updates_G if player == "G" else progress.updates_D
            return last, state.window.updates[player]
        return state.progress.step, state.window.counts.get(f"last_loss_{player}", 0)

    def closing(self, state: State, seconds: float, world_size: int) -> list[str]:
        loss = state.losses.get("loss_G", math.nan)
        ranks = range(world_size if "{rank}" in self.style.closing else 1)
        return [self.style.closing.format(rank=rank, loss=loss, seconds=seconds) for rank in ranks]


class Paddle:
    """The losses of every hundredth iteration, as gan_trainer.py printed them."""

    def interval(self, steps: int) -> int:
        return 100

    def header(self) -> list[str]:
        return []

    def lines(self, record: StatsRecord, state: State) -> list[str]:
        real, fake, D, G = (
            state.losses.get(f"loss_{name}", math.nan) for name in ("real", "fake", "D", "G")
        )
        return [
            f"d_pos_loss is {real}     d_neg_loss is {fake}",
            f"d_loss is {D}    g_loss is {G}",
        ]

    def closing(self, state: State, seconds: float, world_size: int) -> list[str]:
        return []


def log_format_of(options: RunConfig, config: TrainConfig) -> LogFormat:
    """Return the format that a run prints in; CNTK's as the preset's original used it."""
    formats: dict[str, LogFormat] = {
        "plain": Plain(),
        "cntk": Cntk(PRESETS[config.preset].cntk_log),
        "paddle": Paddle(),
    }
    return formats[options.log_format]


def status_line(record: StatsRecord, steps: int, seconds_left: float) -> str:
    """Return one readable line about the updates since the last one."""

    figures = figures_of(record)

    def of(name: str, form: str) -> str:
        return format(figures[name], form) if name in figures else "-"

    errors = "/".join(of(name, ".0%") for name in ERRORS)
    parts = [
        f"step {record['step']:{len(str(steps))}d}/{steps}",
        f"epoch {record['epoch']:.2f}  kimg {record['kimg']:.1f}",
        f"G {of('loss_G', '.4f')}  D {of('loss_D', '.4f')}",
        f"D(x) {of('D_real', '.2f')}  D(G(z)) {of('D_fake', '.2f')}  err {errors}",
        f"lr {record['lr_G']:.3g}/{record['lr_D']:.3g}",
        f"{record['images_per_second']:.0f} img/s  comm {record['communication']:.0%}",
    ]
    if "mean" in record:
        mean, std = (" ".join(f"{v:.3f}" for v in each) for each in (record["mean"], record["std"]))
        parts.append(f"mean {mean}  std {std}")
    return "  ".join([*parts, f"left {duration(seconds_left)}"])


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
