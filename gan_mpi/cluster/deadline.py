"""When the job ends that this program is part of, as --time-limit or its scheduler says."""

import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

PATIENCE = 20  # seconds for a scheduler to answer


@dataclass(frozen=True)
class End:
    """A moment in seconds since 1970, and who sets it, as the subject of a sentence."""

    at: float
    source: str


def seconds_of(text: str) -> int:
    """Return the seconds of a time as Slurm writes it: [[D-]H:]M:S, D-H[:M], or M.

    Raises ValueError.  Source: --time in sbatch(1).
    """
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in parts) or (dash and not days.isdecimal()):
        raise ValueError(f"{text!r} is not like 90 (minutes), 1:30:00 or 2-12:00:00.")
    numbers = [int(part) for part in parts]
    if len(numbers) > 3:
        raise ValueError(f"{text!r} has too many parts for days-hours:minutes:seconds.")
    if dash or len(numbers) == 3:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    else:
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def find_end(time_limit: str | None, began: float) -> tuple[End | None, str | None]:
    """Return the earlier of --time-limit, which counts from `began`, and the scheduler's end.

    Also returns a warning if a scheduler runs the job and does not say when it ends.  Starts
    other programs, and so must be called before MPI is initialised.
    """
    ends, warning = [], None
    if time_limit is not None:
        ends.append(End(began + seconds_of(time_limit), f"--time-limit {time_limit}"))
    for variable, name, ask in SCHEDULERS:
        if job := os.environ.get(variable):
            try:
                left = ask(job)
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                warning = (
                    f"{name} does not say when this job ends ({_short(error)}); --time-limit would"
                )
                break
            if left is not None:
                ends.append(End(time.time() + left, f"{name}'s time limit"))
            break
    return min(ends, key=lambda end: end.at, default=None), None if ends else warning


def _short(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"no program {error.filename}"
    if isinstance(error, subprocess.CalledProcessError):
        return f"{error.cmd[0]} failed"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} did not answer"
    return str(error)


def _output(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return run.stdout.strip()


def _slurm(job: str) -> float | None:
    """Seconds left, None where there is no limit; squeue's %L."""
    left = _output("squeue", "--noheader", "--jobs", job, "--format", "%L")
    return None if left in ("UNLIMITED", "NOT_SET") else seconds_of(left)


def _pbs(job: str) -> float | None:
    """Start and walltime of `qstat -f`, as OpenPBS and TORQUE print them."""
    text = _output("qstat", "-f", job)
    limit = re.search(r"^\s*Resource_List\.walltime = ([\d:]+)$", text, re.MULTILINE)
    start = re.search(r"^\s*(?:stime|start_time) = (.+)$", text, re.MULTILINE)
    if limit is None:
        return None
    if start is None:
        raise ValueError("qstat -f shows no stime")
    began = datetime.strptime(start[1].strip(), "%a %b %d %H:%M:%S %Y").timestamp()
    return began + seconds_of(limit[1]) - time.time()


def _lsf(job: str) -> float | None:
    """The estimated remaining run time of `bjobs -o time_left`, hours:minutes and a letter."""
    text = _output("bjobs", "-noheader", "-o", "time_left", job)
    if text in ("-", ""):
        return None
    found = re.fullmatch(r"(\d+):(\d+)(?: [LEX])?", text)
    if found is None:
        raise ValueError(f"bjobs says {text!r}")
    return 60 * (60 * int(found[1]) + int(found[2]) - 1)  # the minute may have begun


def _flux(job: str) -> float | None:
    """Seconds of `flux job timeleft`, inf without a limit."""
    left = float(_output("flux", "job", "timeleft"))
    return None if left == float("inf") else left


SCHEDULERS: tuple[tuple[str, str, Callable[[str], float | None]], ...] = (
    ("SLURM_JOB_ID", "Slurm", _slurm),
    ("PBS_JOBID", "PBS", _pbs),
    ("LSB_JOBID", "LSF", _lsf),
    ("FLUX_ENCLOSING_ID", "Flux", _flux),
    ("FLUX_JOB_ID", "Flux", _flux),
)
