"""Ranks that go on without those that are gone, where MPI can: by ULFM, in Open MPI 5.

Source: Bland, Bouteiller, Herault, Bosilca, Dongarra, Post-failure recovery of MPI communication
capability, IJHPCA 27 (2013).  It is no part of the MPI standard.
"""

import os
import sys
import time
from contextlib import suppress

from gan_mpi.clock import Clock
from gan_mpi.mpi.comm import Communicator, WrongSum
from gan_mpi.mpi.library import MPI, tells_of_lost_ranks

NOTICED = 1.0  # seconds at most until MPI knows that a rank is gone

# Groups that have lost ranks.  What still belongs to them is never freed: a rank that is gone
# would have to take part, and sums that were under way may still be written.
_broken: list[Communicator] = []
_goes_on: list[bool] = []  # whether the others do without this rank, once that is known
_left: list[MPI.Intracomm] = []  # all ranks that there are, each time others were


def can_go_on() -> bool:
    """Return whether MPI tells ranks of one that is gone, in place of ending them all."""
    return tells_of_lost_ranks() and MPI.Get_library_version().startswith("Open MPI")


def is_of_others(error: BaseException | None) -> bool:
    """Return whether an error is MPI's, which another rank may have caused."""
    return isinstance(error, (MPI.Exception, WrongSum))


def has_lost(comm: Communicator, error: Exception) -> bool:
    """Return whether an error comes of a rank that is gone.

    A collective may give nonsense to who takes part in it with one that goes, which MPI says later.
    """
    if is_of_others(error):
        return True
    until = time.monotonic() + NOTICED
    while not (comm.mpi.Is_revoked() or comm.mpi.Get_failed().size):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def let_others_go_on() -> None:
    """Say that the others go on if this rank ends, and that its end is not the job's."""
    _goes_on.append(True)


def others_go_on() -> bool:
    """Return whether the end of this rank is that of no other."""
    group = left()
    return bool(_goes_on) and (MPI.COMM_WORLD if group is None else group).size > 1


def left() -> MPI.Intracomm | None:
    """Return the ranks that are left of all, None if none was lost."""
    return _left[-1] if _left else None


def without_the_lost(comm: Communicator) -> Communicator:
    """Return the ranks of a group that are left, in their order.

    Collective among those that are left: each calls it once it has_lost() a rank, and lets the
    others know, that may wait for it.
    """
    _broken.append(comm)
    with suppress(MPI.Exception):
        comm.node.Revoke()
    mpi = comm.mpi
    while True:
        mpi.Revoke()
        mpi = MPI.Intracomm(mpi.Shrink())
        mpi.Set_errhandler(MPI.ERRORS_RETURN)
        _left.append(mpi)
        try:
            return Communicator(mpi, clock=comm.clock)
        except MPI.Exception:  # another is gone meanwhile
            continue


def missing(before: Communicator, now: Communicator) -> list[int]:
    """Return the ranks of a group that are not in a later one."""
    ranks = range(before.mpi.size)
    new = before.mpi.Get_group().Translate_ranks([*ranks], now.mpi.Get_group())
    return [rank for rank in ranks if new[rank] == MPI.UNDEFINED]


def came_later() -> bool:
    """Return whether this process was started in the place of one that is gone."""
    return bool(MPI.Comm.Get_parent() != MPI.COMM_NULL)


def replace_the_lost(comm: Communicator, count: int) -> Communicator | None:
    """Start so many processes by this one's command line, and return all ranks, the new ones last.

    None, on all ranks, if MPI cannot, or if one more is gone.  Collective; the new ones join()
    meanwhile.
    """
    folder = MPI.Info.Create({"wdir": os.getcwd()})
    command = ["-m", "gan_mpi", *sys.argv[1:]]
    everyone = None
    with suppress(MPI.Exception):
        everyone = _together(comm.mpi.Spawn(sys.executable, command, count, folder), comm.clock)
        everyone.mpi.allreduce(0)  # none has failed before it got here, as world() asks
    try:
        is_there = comm.mpi.Agree(int(everyone is not None))
    except MPI.Exception:
        is_there = 0
    if not is_there and everyone is not None:
        everyone.mpi.Revoke()
        _left.pop()
    return everyone if is_there else None


def join() -> Communicator:
    """Return all ranks, of which this one came_later().  Collective."""
    return _together(MPI.Comm.Get_parent())


def _together(others: MPI.Intercomm, clock: Clock | None = None) -> Communicator:
    """Return the ranks of both sides as one group, those that were there before first."""
    mpi = MPI.Intracomm(others.Merge(came_later()))
    mpi.Set_errhandler(MPI.ERRORS_RETURN)
    _left.append(mpi)
    return Communicator(mpi, clock=clock)
