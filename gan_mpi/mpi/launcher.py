"""What the program that started this process says of it, read without initialising MPI."""

import os
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path

RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "MPI_RANK")
SIZE_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
LOCAL_RANK_VARIABLES = (
    "MPI_LOCALRANKID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "PMI_LOCAL_RANK",
    "PALS_LOCAL_RANKID",
    "SLURM_LOCALID",
)
LOCAL_VARIABLES = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")


def _first_number(names: Iterable[str]) -> int | None:
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal()), None)


def rank() -> int | None:
    """Return the rank that an MPI launcher gave this process; None where there is no launcher."""
    return _first_number(RANK_VARIABLES)


def local_rank() -> int | None:
    """Return the rank among those of this node; None where the launcher does not say."""
    return _first_number(LOCAL_RANK_VARIABLES)


def local_task() -> int | None:
    """Return the rank among the tasks of this node, if Slurm started this process."""
    return _first_number(["SLURM_LOCALID"])


def node_name() -> str:
    """Return the name of this node, as Slurm has it or as it calls itself."""
    return os.environ.get("SLURMD_NODENAME") or platform.node()


def process_count() -> int:
    """Return how many processes the launcher started, 1 where it does not say."""
    return _first_number(SIZE_VARIABLES) or 1


def local_count() -> int:
    """Return how many of them the launcher started on this node, where it says; else all."""
    return _first_number(LOCAL_VARIABLES) or _tasks_of_slurm() or process_count()


def _tasks_of_slurm() -> int | None:
    """Return how many tasks of a step `srun` started on this node, None if it did not."""
    tasks: list[int] = []
    for part in os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):  # such as 2(x3),1
        if match := re.fullmatch(r"(\d{1,6})(?:\(x(\d{1,6})\))?", part):
            tasks += [int(match[1])] * int(match[2] or 1)
    node = _first_number(["SLURM_NODEID"])
    return tasks[node] if node is not None and node < len(tasks) else None


def speaks_first() -> bool:
    """Return whether this process prints what all ranks would say alike."""
    number = rank()
    if number is None and process_count() > 1:
        number = _first_number(["SLURM_PROCID"])
    return not number


def is_open_mpi() -> bool:
    """Return whether Open MPI's mpiexec started this process."""
    return "OMPI_COMM_WORLD_SIZE" in os.environ


def is_hydra() -> bool:
    """Return whether Hydra, the mpiexec of MPICH and its relatives, started this process."""
    of_slurm = "SLURM_STEP_ID" in os.environ  # where Hydra's ranks tell by what else it sets
    return "PMI_SIZE" in os.environ and (not of_slurm or "MPI_LOCALNRANKS" in os.environ)


def is_pmi2_of_slurm() -> bool:
    """Return whether `srun --mpi=pmi2` started this process, and no mpiexec below it."""
    return "PMI_SIZE" in os.environ and not is_hydra()


def words(size: int) -> str:
    """Return what stands before a command that so many ranks shall run as these do."""
    if size == 1:
        return ""
    by_srun = "SLURM_PROCID" in os.environ and not (is_hydra() or is_open_mpi())
    return f"{'srun' if by_srun else 'mpiexec'} -n {size} "


def matching_mpiexec() -> str:
    """Name the mpiexec that belongs to this Python."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else "the mpiexec that came with that library"
