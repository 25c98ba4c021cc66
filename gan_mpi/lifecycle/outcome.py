"""How a job ended, as a file, since the code of an mpiexec may say something else."""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever reports may have no MPI
    from gan_mpi.mpi.comm import Communicator

VARIABLE = "GAN_MPI_OUTCOME"  # of the environment: the file


def tell_all(comm: "Communicator") -> None:
    """Let all ranks know the file, of which a launcher tells those of its own host. Collective."""
    if told := next(filter(None, comm.allgather(os.environ.get(VARIABLE))), None):
        os.environ[VARIABLE] = told


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
