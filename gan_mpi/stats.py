"""What is reported of a run: means since the last status line, the line, and stats.jsonl."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_mpi.files import read_lines, write_aside

STATS_FILE = "stats.jsonl"
LINES = 50  # status lines of a run, as many as CNTK's example printed
ERRORS = ("error_real", "error_fake", "error_G")


@dataclass
class Window:
    """Sums of global means since the last status line.  Part of the checkpoint."""

    totals: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    updates: dict[str, int] = field(default_factory=lambda: {"D": 0, "G": 0})

    def add(self, figures: Mapping[str, float]) -> None:
        """Add means over a global batch, by name."""
        for name, mean in figures.items():
            self.totals[name] = self.totals.get(name, 0.0) + mean
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Return the mean of each figure over the updates that it was taken in."""
        return {name: total / self.counts[name] for name, total in self.totals.items()}


def passed(before: int, after: int, every: int) -> bool:
    """Return whether a multiple of `every` is among the steps before+1 .. after."""
    return after // every > before // every


def read_stats(run_dir: Path) -> list[dict[str, Any]]:
    """Return the records of a run's stats.jsonl, without a last line cut off by a crash."""
    return read_lines(run_dir / STATS_FILE)


def forget_stats_after(run_dir: Path, step: int) -> None:
    """Drop the records of steps that a resumed run is going to do again."""
    kept = [record for record in read_stats(run_dir) if record["step"] <= step]
    text = "".join(json.dumps(record) + "\n" for record in kept)
    write_aside(run_dir / STATS_FILE, text.encode())


def status_line(record: dict[str, Any], steps: int, seconds_left: float) -> str:
    """Return one readable line about the updates since the last one."""

    def of(name: str, form: str) -> str:
        return format(record[name], form) if name in record else "-"

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
        mean, std = (
            " ".join(f"{v:.3f}" for v in record[name]) for name in ("mean", "std")
        )
        parts.append(f"mean {mean}  std {std}")
    return "  ".join([*parts, f"left {duration(seconds_left)}"])


def site_lines(record: dict[str, Any]) -> list[str]:
    """Return a line for each site of a run of sites, about its last round, and one for all."""
    if "sites" not in record:
        return []

    def line(who: str, figures: dict[str, Any]) -> str:
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


LEGEND = (
    "(G, D: losses; D(x), D(G(z)): mean scores of reals and fakes; err: reals/fakes that D takes "
    "for the other, and fakes that G fails to pass off as real; lr: of G/D; comm: share of the "
    "time)"
)


def duration(seconds: float) -> str:
    """Return seconds as 0:07, 12:34 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
