"""How long a job may still run, as its scheduler says."""

import os
import re
import subprocess
import time
from datetime import datetime

PATIENCE = 20  # seconds for a scheduler to answer


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


def _output(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return run.stdout.strip()


def slurm_time_left(job: str) -> float | None:
    """Seconds left, None where there is no limit; squeue's %L.

    A task of an array asks for itself: one of them has the number of the whole array.  The parts of
    a heterogeneous job answer together, and the job is over with the first of them.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{array}_{task}" if array and task else job
    left = _output("squeue", "--noheader", "--jobs", name, "--format", "%L").split()
    limits = [seconds_of(each) for each in left if each not in ("UNLIMITED", "NOT_SET")]
    if not left:
        raise ValueError("squeue shows no such job")
    return min(limits, default=None)


def pbs_time_left(job: str) -> float | None:
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


def lsf_time_left(job: str) -> float | None:
    """The estimated remaining run time of `bjobs -o time_left`, hours:minutes and a letter."""
    index = os.environ.get("LSB_JOBINDEX", "0")  # of a task of an array
    name = job if index == "0" else f"{job}[{index}]"
    text = _output("bjobs", "-noheader", "-o", "time_left", name)
    if text in ("-", ""):
        return None
    clock = re.fullmatch(r"(\d+):(\d+)(?: [LEX])?", text)
    if clock is None:
        raise ValueError(f"bjobs says {text!r}")
    return 60 * (60 * int(clock[1]) + int(clock[2]) - 1)  # the minute may have begun


def flux_time_left(job: str) -> float | None:
    """Seconds of `flux job timeleft`, inf without a limit."""
    left = float(_output("flux", "job", "timeleft"))
    return None if left == float("inf") else left
