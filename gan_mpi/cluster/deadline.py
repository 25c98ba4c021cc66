"""When the job ends that this program is part of, as --time-limit or its scheduler says."""

import os
import subprocess
import time
from dataclasses import dataclass

from gan_mpi.cluster.schedulers import SCHEDULERS, Scheduler
from gan_mpi.cluster.time_left import seconds_of


@dataclass(frozen=True)
class End:
    """A moment in seconds since 1970, and who sets it, as the subject of a sentence."""

    at: float
    source: str


def find_end(time_limit: str | None, began: float) -> tuple[End | None, str | None]:
    """Return the earlier of --time-limit, which counts from `began`, and the scheduler's end.

    Also returns a warning if a scheduler runs the job and does not say when it ends.  Starts
    other programs, and so must be called before MPI is initialised.
    """
    ends, warning = [], None
    if time_limit is not None:
        ends.append(End(began + seconds_of(time_limit), f"--time-limit {time_limit}"))
    scheduler, job = _scheduler_of_this_job()
    if scheduler is not None:
        try:
            left = scheduler.time_left(job)
            if left is not None:
                ends.append(End(time.time() + left, f"{scheduler.name}'s time limit"))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            why = f"{scheduler.name} does not say when this job ends ({_short(error)})"
            warning = f"{why}; --time-limit would"
    return min(ends, key=lambda end: end.at, default=None), None if ends else warning


def _scheduler_of_this_job() -> tuple[Scheduler | None, str]:
    """Return the scheduler that runs this job, None without one, and the job's name there."""
    for scheduler in SCHEDULERS.values():
        for variable in scheduler.job_variables:
            if job := os.environ.get(variable):
                return scheduler, job
    return None, ""


def job_name() -> str | None:
    """Return the number of this job at its scheduler, None outside of one."""
    scheduler, job = _scheduler_of_this_job()
    return None if scheduler is None else f"{job} of {scheduler.name}"


def _short(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"no program {error.filename}"
    if isinstance(error, subprocess.CalledProcessError):
        return f"{error.cmd[0]} failed"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} did not answer"
    return str(error)
