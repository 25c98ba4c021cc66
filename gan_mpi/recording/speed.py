"""What a status line says of a run, and of its speed since the last one."""

import time
from dataclasses import dataclass
from typing import cast

from gan_mpi.clock import between
from gan_mpi.runs.stats import StatsRecord
from gan_mpi.training.run import Run


@dataclass
class Tick:
    """Where a run was at its last status line, to reckon its speed by."""

    at: float  # of time.perf_counter
    step: int
    images: int
    seconds: dict[str, float]  # of the clock, by phase
    hidden: float  # seconds that sums went on while this rank computed


def tick(run: Run) -> Tick:
    """Return where a run is now."""
    progress, comm = run.state.progress, run.comm
    seconds, hidden = comm.clock.seconds(), comm.under_way.hidden
    return Tick(time.perf_counter(), progress.step, progress.images, seconds, hidden)


def record_of(run: Run, last: Tick, now: Tick) -> StatsRecord:
    """Return what stats.jsonl says of the time from one tick to a later one."""
    state = run.state
    game, progress = state.game, state.progress
    spent = between(last.seconds, now.seconds)
    seconds = now.at - last.at - spent["evaluation"]  # training's speed is without them
    record = {
        "step": progress.step,
        "epoch": progress.images / state.data.count,
        "kimg": progress.images / 1000,
        "updates": dict(state.window.updates),
        **state.window.means(),
        "lr_G": game.G.lr,
        "lr_D": game.D.lr,
        "images_per_second": (now.images - last.images) / seconds,
        "seconds_per_step": seconds / max(1, now.step - last.step),
        "communication": (spent["communication"] + spent["batch_norm_sums"]) / seconds,
        "time": time.time(),
        **state.round_figures,
    }
    if now.hidden > last.hidden:
        record["hidden"] = (now.hidden - last.hidden) / seconds
    return cast(StatsRecord, record)
