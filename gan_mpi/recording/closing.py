"""What is said at the end of a run."""

from gan_mpi.training.run import Run


def closing_lines(run: Run, now: str) -> list[str]:
    """Return what there is at the end, and what can be done next; `now` is what this start did."""
    step, steps, directory = run.state.progress.step, run.state.config.steps, run.directory
    losses = ", ".join(
        f"of {player} {run.state.losses[f'loss_{player}']:.4f}"
        for player in "GD"
        if f"loss_{player}" in run.state.losses
    )
    resume = f"gan-mpi train --resume {directory}"
    done = f"{'done:' if run.is_done else 'stopped after'} {step} of {steps} steps"
    longer = f"train longer: {resume} --steps {2 * steps}"
    return [
        f"{done}, {now}" + (f"; loss {losses}" if losses else ""),
        f"samples: {directory / f'fakes-{step:06d}.png'}",
        f"draw more: gan-mpi sample {directory} --seeds 0-99",
        longer if run.is_done else f"go on: {resume}",
    ]
