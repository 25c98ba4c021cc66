"""How a job ended, as a file, since the code of an mpiexec may say something else."""

import os
from contextlib import suppress
from pathlib import Path

VARIABLE = "GAN_MPI_OUTCOME"  # of the environment: the file


def report(code: int) -> None:
    """Write the exit code of this job for whoever asked for it, by root or by who ends the job."""
    if path := os.environ.get(VARIABLE):
        with suppress(OSError):
            aside = Path(f"{path}.{os.getpid()}.tmp")
            aside.write_text(f"{code}\n")
            aside.rename(path)


def read(path: Path) -> int | None:
    """Return the code that was written, None if there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
