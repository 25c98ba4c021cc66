"""What is reported of a run: means since the last status line, the line, and stats.jsonl."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_mpi.files import write_aside

STATS_FILE = "stats.jsonl"
LINES = 50  # status lines of a run, as many as CNTK's example printed


@dataclass
class Window:
    """Sums of global means since the last status line.  Part of the checkpoint."""

    totals: dict[str, float] = field(default_factory=dict)
    updates: dict[str, int] = field(default_factory=lambda: {"D": 0, "G": 0})

    def add(self, player: str, names: Iterable[str], means: Iterable[float]) -> None:
        """Count one update of a player, D or G, with its means over the global batch."""
        self.updates[player] += 1
        for name, mean in zip(names, means, strict=True):
            self.totals[name] = self.totals.get(name, 0.0) + mean

    def means(self) -> dict[str, float]:
        """Return the mean of each figure over the updates that it was taken in."""
        return {
            name: total / self.updates["G" if name == "loss_G" else "D"]
            for name, total in self.totals.items()
        }


def read_stats(run_dir: Path) -> list[dict[str, Any]]:
    """Return the records of a run's stats.jsonl, without a last line cut off by a crash."""
    records = []
    path = run_dir / STATS_FILE
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def forget_stats_after(run_dir: Path, step: int) -> None:
    """Drop the records of steps that a resumed run is going to do again."""
    kept = [record for record in read_stats(run_dir) if record["step"] <= step]
    text = "".join(json.dumps(record) + "\n" for record in kept)
    write_aside(run_dir / STATS_FILE, text.encode())


def status_line(record: dict[str, Any], steps: int, seconds_left: float) -> str:
    """Return one readable line about the updates since the last one."""
    line = (
        f"step {record['step']:{len(str(steps))}d}/{steps}  epoch {record['epoch']:.2f}"
        f"  kimg {record['kimg']:.1f}  G {record['loss_G']:.4f}  D {record['loss_D']:.4f}"
        f"  D(x) {record['D_real']:.2f}  D(G(z)) {record['D_fake']:.2f}"
        f"  err {record['error_real']:.0%}/{record['error_fake']:.0%}"
        f"  lr {record['lr_G']:.3g}/{record['lr_D']:.3g}"
        f"  {record['images_per_second']:.0f} img/s  comm {record['communication']:.0%}"
    )
    return f"{line}  left {duration(seconds_left)}"


LEGEND = (
    "(G, D: losses; D(x), D(G(z)): mean scores of reals and fakes; err: reals/fakes that D takes "
    "for the other; lr: of G/D; comm: share of the time)"
)


def cntk_lines(
    record: dict[str, Any], window: Window, d_steps: int, batch: int
) -> list[str]:
    """Return the lines of CNTK's ProgressPrinter for the updates in `window`: D's, then G's."""
    lines = []
    for player, per_step in (("D", d_steps), ("G", 1)):
        last, count = record["step"] * per_step, window.updates[player]
        loss = record[f"loss_{player}"]
        lines.append(
            f" Minibatch[{last - count + 1:4d}-{last:4d}]: loss = {loss:0.6f} * {count * batch};"
        )
    return lines


def cntk_closing_lines(loss: float, seconds: float, world_size: int) -> list[str]:
    """Return the last lines of CNTK's example, one a rank, with its literal braces."""
    return [
        f"Training loss of the generator at worker: {{{rank}}} is: {{{loss:f}}}, "
        f"time taken is: {{{seconds:.0f}}} seconds."
        for rank in range(world_size)
    ]


def duration(seconds: float) -> str:
    """Return seconds as 0:07, 12:34 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
