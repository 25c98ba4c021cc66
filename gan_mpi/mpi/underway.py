"""Sums over ranks that go on while a rank computes."""

import time

from gan_mpi.arrays import Array
from gan_mpi.clock import Clock
from gan_mpi.mpi.library import MPI


class SumsUnderWay:
    """Sums that have begun.  All ranks begin the same ones in the same order.

    Over TCP an MPI sends little unless it is called: who computes meanwhile looks after them often.
    """

    def __init__(self, mpi: MPI.Intracomm, clock: Clock) -> None:
        self.at_once = False  # wait for each where it begins
        # Seconds from the beginning of sums until this rank saw their end, or waited for it.
        self.hidden = 0.0
        self._mpi, self._clock = mpi, clock
        self._requests: list[MPI.Request] = []
        self._since = 0.0

    def begin(self, array: Array) -> None:
        """Begin to replace an array, which nobody may touch meanwhile, by its sum.  Collective."""
        with self._clock.phase("communication"):
            request = self._mpi.Iallreduce(MPI.IN_PLACE, array, MPI.SUM)
            if self.at_once:
                request.Wait()
                return
        if not self._requests:
            self._since = time.perf_counter()
        self._requests.append(request)

    def look(self) -> None:
        """Let the sums go on, if any are under way."""
        if self._requests and MPI.Request.Testall(self._requests):
            self._count()
            self._requests = []

    def wait(self) -> None:
        """Wait until all that have begun are there.  Collective."""
        if self._requests:
            self._count()
            with self._clock.phase("communication"):
                MPI.Request.Waitall(self._requests)
            self._requests = []  # not where a rank is gone: what is under way may yet arrive

    def _count(self) -> None:
        """Count as hidden what went by since the first of the sums began."""
        self.hidden += time.perf_counter() - self._since
