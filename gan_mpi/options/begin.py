"""How a command on ranks begins: its end, its signals, MPI, its imports."""

import contextlib
import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gan_mpi.cluster.deadline import End, find_end
from gan_mpi.runs.log import warn

if TYPE_CHECKING:
    from gan_mpi.lifecycle.phases import Phases
    from gan_mpi.lifecycle.stopping import StopRequest
    from gan_mpi.mpi.comm import Communicator


def begin(
    time_limit: str | None, cuda_aware: bool = False
) -> "tuple[Communicator, StopRequest, Phases, End | None]":
    """Find out when the job ends, catch signals, and start MPI.  Collective.

    With `cuda_aware` MPI may be told by the environment to read memory of GPUs.
    """
    from gan_mpi.lifecycle.phases import Phases
    from gan_mpi.lifecycle.stopping import StopRequest
    from gan_mpi.mpi.launcher import speaks_first

    phases, stop = Phases(), StopRequest()
    stop.install()
    end, unknown = find_end(time_limit, phases.began) if speaks_first() else (None, None)
    if unknown:
        warn(unknown)
    phases.end("python")
    comm = start_mpi(cuda_aware)
    stop.install()
    phases.end("MPI")
    return comm, stop, phases, end


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import what stays until the end, of which the collector finds no garbage, ever.

    It would take a third of the time in which torch is imported, and look at all of it again in
    the training loop.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def start_mpi(cuda_aware: bool = False) -> "Communicator":
    """Start MPI, and let processors of the ranks that train together compute alike.  Collective.

    Must come before torch is imported.
    """
    from gan_mpi.cluster.processors import VARIABLES, settle_processors
    from gan_mpi.mpi.world import world

    comm = world(cuda_aware)
    lowest = settle_processors(comm)
    if lowest and comm.is_root:
        warn(
            "the ranks' processors have different instruction sets; all use those of "
            f"{VARIABLES[0]}={lowest}"
        )
    return comm
