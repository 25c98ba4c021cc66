"""What is said at the end of a run."""

import shlex
from typing import cast

from gan_mpi.mpi import launcher
from gan_mpi.runs.stats import StatsRecord, figure_texts, last_stats
from gan_mpi.training.run import Run


def closing_lines(run: Run, now: str) -> list[str]:
    """Return what there is at the end, and what can be done next; `now` is what this start did."""
    step, steps, directory = run.state.progress.step, run.state.config.steps, run.directory
    again = shlex.quote(str(directory))
    records = last_stats(directory)
    means = records[-1] if records else cast(StatsRecord, run.state.window.means())
    losses = "  ".join(figure_texts(means, "loss_"))
    resume = f"{launcher.words(run.comm.world_size)}gan-mpi train --resume {again}"
    done = f"{'done:' if run.is_done else 'stopped after'} {step} of {steps} steps"
    longer = f"train longer: {resume} --steps {2 * steps}"
    return [
        f"{done}, {now}" + (f"; losses: {losses}" if losses else ""),
        f"samples: {directory / f'fakes-{step:06d}.png'}",
        f"draw more: gan-mpi sample {again} --seeds 0-99",
        longer if run.is_done else f"go on: {resume}",
    ]
