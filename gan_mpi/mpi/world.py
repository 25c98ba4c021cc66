"""MPI in this process: begun, matched with its launcher, left, aborted."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from gan_mpi.errors import UserError, invalid_value
from gan_mpi.mpi import launcher
from gan_mpi.mpi.comm import Communicator, wait_for_all
from gan_mpi.mpi.library import MPI
from gan_mpi.mpi.survivors import came_later, can_go_on, join, left, let_others_go_on

OUTPUT_HEAD_START = 0.5  # seconds for what this rank said, before it aborts
SUPPORT = tuple(f"MPIX_Query_{kind}_support" for kind in ("cuda", "rocm", "hip"))
GPU_LIBRARY = "libmpi_gtl"  # of Cray's MPICH: GPU transport layer
SPEAKER_FIRST = 2.0  # seconds in which the rank that speaks leaves before the others


def library_name() -> str:
    """Return the MPI library's name and version, such as 'MPICH 5.0.2'."""
    name, version = MPI.get_vendor()
    return f"{name} {'.'.join(map(str, version))}"


def network_name() -> str:
    """Return the network that MPICH was told to use, such as 'ofi'; "" where it chooses."""
    return os.environ.get("MPIR_CVAR_CH4_NETMOD", "")


def memory_kinds() -> str:
    """Return the kinds of memory that MPI says it reads, such as 'system,cuda'; MPI 4.1."""
    return MPI.COMM_WORLD.Get_info().Get("mpi_memory_alloc_kinds") or ""


def reads_devices() -> bool | None:
    """Return whether MPI says that it reads memory of GPUs, None if it says nothing.

    It says so by the kinds of memory of MPI 4.1, or by a function that Open MPI and MPICH have for
    each kind of card.  Of the kinds a library may leave out what nobody has asked for.
    """
    kinds = {kind.partition(":")[0] for kind in memory_kinds().split(",")}
    answers = [answer for name in SUPPORT if (answer := _ask(name)) is not None]
    if kinds & {"cuda", "rocm"} or any(answers):
        return True
    return False if answers or memory_kinds() else None


def _ask(name: str) -> bool | None:
    """Return what a function of the MPI library without arguments says, None if it has none."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    for path in {line.split()[-1] for line in lines if "/libmpi.so" in line}:
        if (function := getattr(ctypes.CDLL(path), name, None)) is not None:
            return bool(function())
    return None


def has_threads() -> bool:
    """Return whether any thread of this process may call MPI."""
    return MPI.Query_thread() == MPI.THREAD_MULTIPLE


def _check_library() -> None:
    library = MPI.Get_library_version()
    refused = launcher.is_open_mpi() and "MPICH" in library
    if refused or (launcher.is_hydra() and library.startswith("Open MPI")):
        raise _mismatch()


def _settle_pmix() -> None:
    """Let MPICH, which knows no PMIx, begin where a step of Slurm's has left its variables.

    In an interactive shell of such a step they are there for mpiexec's ranks, and for a single
    process, and MPI_Init would abort.  Raises UserError if Slurm's PMIx started these very ranks.
    """
    if "PMIX_NAMESPACE" not in os.environ or "MPICH" not in MPI.Get_library_version():
        return
    if "PMI_SIZE" in os.environ:  # of MPICH's own launcher
        os.environ.setdefault("MPIR_CVAR_PMI_VERSION", "1")
    elif launcher.process_count() > 1:
        raise _mismatch()
    else:
        for name in [name for name in os.environ if name.startswith("PMIX_")]:
            del os.environ[name]


def _settle_network() -> None:
    """Have MPICH use libfabric where Slurm's pmi2 started the ranks, unless the user chose.

    With UCX a rank publishes 4 KiB, its address and the memory behind it, in lines of which pmi2
    does not always find the end; MPI_Init does not return then (MPICH 5.0.2, Slurm 22.05).  An
    address of libfabric is one short line.
    """
    if launcher.is_pmi2_of_slurm() and "ch4:ucx ofi" in MPI.Get_library_version():
        os.environ.setdefault("MPIR_CVAR_CH4_NETMOD", "ofi")


def _settle_gpu_support(cuda_aware: bool) -> None:
    """Let Cray's MPICH begin without its library for memory of GPUs, if that is not loaded.

    Asked to read such memory by this variable, as sites do for all, it ends a program that is not
    linked with that library; Python is not, unless mpi4py was, or it is preloaded.  Nor is it
    loaded for nothing: each rank would open a GPU.
    """
    loaded = Path("/proc/self/maps")
    has_library = loaded.exists() and GPU_LIBRARY in loaded.read_text()
    if "MPICH_GPU_SUPPORT_ENABLED" in os.environ and not (cuda_aware and has_library):
        os.environ["MPICH_GPU_SUPPORT_ENABLED"] = "0"


def _mismatch() -> UserError:
    # These processes cannot wait for each other, and Open MPI's launcher ends them all when the
    # first one leaves with a code: let the one that speaks be first.
    if not launcher.speaks_first():
        time.sleep(SPEAKER_FIRST)
    error = UserError(
        f"the launcher started {launcher.process_count()} processes for another MPI than the "
        f"{library_name()} that this Python's mpi4py uses; start it with "
        f"{launcher.matching_mpiexec()}.",
        exit_code=64,
    )
    error.on_all_ranks = True
    return error


def _initialise(cuda_aware: bool = False) -> Communicator:
    if not MPI.Is_initialized():
        _check_library()
        _settle_pmix()
        _settle_network()
        _settle_gpu_support(cuda_aware)
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    if MPI.COMM_WORLD.size == 1 and launcher.process_count() > 1:
        raise _mismatch()
    return join() if came_later() else Communicator(MPI.COMM_WORLD)


def world(cuda_aware: bool = False) -> Communicator:
    """Initialise MPI and return all ranks, once all have got here.  Collective.

    It may be told to read memory of GPUs only if it is `cuda_aware`.
    Raises UserError with exit code 64 if the launcher belongs to another MPI.
    """
    comm = _initialise(cuda_aware)
    while comm.mpi.allreduce(0):
        # A rank failed before it got here, and is about to abort the job.
        time.sleep(60)
    return comm


def has_started() -> bool:
    """Return whether MPI is initialised."""
    return MPI.Is_initialized()


def _everyone() -> MPI.Intracomm:
    return left() or MPI.COMM_WORLD


def is_alone() -> bool:
    """Return whether this is the only rank."""
    return _everyone().size == 1


def is_first() -> bool:
    """Return whether this rank speaks for all that are left."""
    group = left()
    return launcher.speaks_first() if group is None else group.rank == 0


def all_ranks_failed() -> bool:
    """Say, instead of world(), that this rank failed; return whether all did.  Collective."""
    comm = _initialise()
    return comm.mpi.allreduce(1) == comm.world_size


def require_survivors(on_failure: str) -> None:
    """Let ranks go on without one that is gone, or end with it.

    Raises UserError if they shall go on, and MPI ends them.
    """
    if on_failure != "abort" and not can_go_on():
        raise invalid_value(
            "on_failure",
            f"{on_failure}, but this {library_name()} ends all ranks with one; start them with "
            "Open MPI 5 and mpiexec --with-ft ulfm",
        )
    if on_failure != "abort":
        let_others_go_on()


def leave(exit_code: int = 0) -> None:
    """Wait for all ranks and finalise MPI, if it was used.  Collective.

    Where ranks have gone on without others this process ends here, with its exit code: Open MPI
    5.0.11 never finalises once all ranks of mpiexec's own host are gone.
    """
    if MPI.Is_initialized() and not MPI.Is_finalized():
        try:
            wait_for_all(_everyone())
        except MPI.Exception:
            if not can_go_on():  # as if it had left before
                raise
        if left() is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(exit_code)
        MPI.Finalize()


def abort(exit_code: int) -> None:
    """End all ranks at once with a non-zero exit code; does not return.

    Where ranks may go on without this one it ends alone, and the launcher's code tells nothing.

    A launcher learns of an abort by another way than it forwards output, and drops what it has
    not read by then (seen with MPICH's on a busy machine), so what was said gets a head start.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(OUTPUT_HEAD_START)
    if can_go_on():  # there an abort, like a rank's exit code, leaves mpiexec waiting
        os.kill(os.getpid(), signal.SIGKILL)
    MPI.COMM_WORLD.Abort(exit_code or 1)
