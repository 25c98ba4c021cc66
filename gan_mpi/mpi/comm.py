"""The communicator that everything collective takes first."""

import os
import tempfile
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import numpy as np

from gan_mpi.arrays import Array, SharedMemory
from gan_mpi.clock import HERE, Clock
from gan_mpi.errors import UserError
from gan_mpi.mpi import launcher
from gan_mpi.mpi.library import MPI
from gan_mpi.mpi.underway import SumsUnderWay

T = TypeVar("T")
ROOT = 0
SHARED_MEMORY = "/dev/shm"
PIECE = 1 << 28  # bytes of one broadcast
SHARED_MEMORY_RESERVE = 16 << 20  # bytes that MPI itself may still want there


class WrongSum(RuntimeError):
    """A sum over ranks that is none, as an MPI may give one once a rank is gone."""


class Communicator:
    """A group of ranks, the ranks of this node among them, and the clock of this process."""

    def __init__(
        self,
        mpi: MPI.Intracomm,
        node: MPI.Intracomm | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Divide ranks by node, that is by shared memory, or as `node` does.  Collective."""
        self.mpi = mpi
        self.rank: int = mpi.rank
        self.world_size: int = mpi.size
        self.node = node or _ranks_of_this_node(mpi)
        self.local_rank: int = self.node.rank
        self.local_size: int = self.node.size
        self.node_count: int = mpi.allreduce(int(self.local_rank == 0))
        self.clock = clock or Clock()
        self.under_way = SumsUnderWay(mpi, self.clock)
        self.messages: list[int] | None = None  # bytes of each sum, while somebody counts them

    def __deepcopy__(self, memo: dict[int, object]) -> "Communicator":
        """Return itself: a copy of a network spans the same ranks."""
        return self

    @property
    def is_root(self) -> bool:
        """Whether this is the rank that prints and writes."""
        return self.rank == ROOT

    def sum_in_place(self, array: Array) -> None:
        """Replace a contiguous float32 or float64 array by its sum over ranks.  Collective."""
        self._check_sum(array)
        if self.world_size > 1:
            self.mpi.Allreduce(MPI.IN_PLACE, array, MPI.SUM)

    def begin_sum(self, array: Array) -> None:
        """Begin what sum_in_place() does; it is there after `under_way.wait()`.  Collective."""
        self._check_sum(array)
        self.under_way.begin(array)

    def _check_sum(self, array: Array) -> None:
        """Raise TypeError for what not every MPI sums rightly; count the message."""
        if array.dtype not in (np.float32, np.float64) or not array.flags.c_contiguous:
            raise TypeError(f"cannot sum {array.dtype} with strides {array.strides} over MPI")
        if self.messages is not None:
            self.messages.append(array.nbytes)

    def extremes(self, array: Array) -> tuple[Array, Array]:
        """Return the smallest and the largest of each element over ranks.  Collective."""
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError("a NaN in MIN or MAX: MPI libraries differ in what they answer")
        low, high = array.copy(), array.copy()
        self.mpi.Allreduce(MPI.IN_PLACE, low, MPI.MIN)
        self.mpi.Allreduce(MPI.IN_PLACE, high, MPI.MAX)
        return low, high

    def broadcast_in_place(self, array: Array) -> None:
        """Replace a contiguous array by root's.  Collective."""
        _broadcast(self.mpi, array)

    def broadcast(self, value: T) -> T:
        """Return root's value on every rank.  Collective."""
        return self.mpi.bcast(value, ROOT)

    def ask(self, rank: int, answer: Callable[[], T]) -> T | None:
        """Return, on root, what `answer()` gives on another rank; both must call, None there."""
        if not self.is_root:
            self.mpi.recv(source=ROOT)
            self.mpi.send(answer(), ROOT)
            return None
        self.mpi.send(None, rank)
        return self.mpi.recv(source=rank)

    def allgather(self, value: T) -> list[T]:
        """Return every rank's value, in the order of ranks, on every rank.  Collective."""
        values = self.mpi.allgather(value)
        HERE.move()
        return values

    def gather(self, value: T) -> list[T]:
        """Return every rank's value on root, an empty list elsewhere.  Collective."""
        return self.mpi.gather(value, ROOT) or []

    def node_allgather(self, value: T) -> list[T]:
        """Return the values of the ranks of this node, on each of them.  Collective."""
        return self.node.allgather(value)

    def first_ranks(self, count: int) -> "Communicator | None":
        """Return a group of the first `count` ranks, None on the others.  Collective."""
        return self._group(self.rank < count)

    def far_pair(self) -> "Communicator | None":
        """Return a group of root and a rank of another node, if there is one, else rank 1.

        None on the others.  Collective; there must be two ranks.
        """
        firsts = [rank for rank, local in enumerate(self.allgather(self.local_rank)) if not local]
        return self._group(self.rank in (ROOT, firsts[1] if len(firsts) > 1 else 1))

    def _group(self, inside: bool) -> "Communicator | None":
        part = self.mpi.Split(0 if inside else 1, self.rank)
        return Communicator(MPI.Intracomm(part), clock=self.clock) if inside else None

    def alone(self) -> "Communicator":
        """Return the group of this rank only, with a clock of its own."""
        return Communicator(MPI.COMM_SELF)

    def barrier(self) -> None:
        """Wait for all ranks, asleep.  Collective."""
        wait_for_all(self.mpi)

    def alike(self, function: Callable[[], T]) -> T:
        """Return function(), which finds the same on all ranks; a UserError is that of all.

        Nothing crosses: the caller knows that every rank calls, with the same facts.
        """
        try:
            return function()
        except UserError as error:
            self.raise_alike(error)

    def raise_alike(self, error: UserError) -> NoReturn:
        """Raise an error that all ranks have found alike."""
        error.on_all_ranks = True
        raise error

    def on_root(self, function: Callable[[], T]) -> T:
        """Return, or raise, on all ranks what `function()` does on root.  Collective."""
        result, error = _attempt(function) if self.is_root else (None, None)
        self.barrier()
        result, error = self.mpi.bcast((result, error), ROOT)
        _raise_everywhere([error])
        return result  # type: ignore[return-value]

    def agree(self, function: Callable[[], T]) -> T:
        """Return function() on every rank; a UserError on any is raised on all.  Collective."""
        result, error = _attempt(function)
        self.barrier()
        _raise_everywhere(self.mpi.allgather(error))
        return result  # type: ignore[return-value]

    def on_each_node(self, function: Callable[[], T]) -> T | None:
        """Return function() on the first rank of each node, None elsewhere.  Collective.

        A UserError on any of them is raised on all ranks.
        """
        return self.agree(lambda: function() if self.local_rank == 0 else None)

    def share_on_node(self, array: Array | None) -> tuple[Array, bool]:
        """Give all ranks of a node one read-only copy of its first rank's array.  Collective.

        Also returns whether it is one copy: where shared memory cannot be had, each rank has
        a private one.
        """
        if self.local_size == 1:
            assert array is not None, "the only rank of a node must bring the array"
            array.flags.writeable = False
            return array, True
        shape, dtype = self.node.bcast(None if array is None else (array.shape, array.dtype))
        size = int(np.prod(shape)) * dtype.itemsize
        memory = self._shared_memory(max(1, size))
        copy: Array = np.empty(shape, dtype) if memory is None else np.ndarray(shape, dtype, memory)
        if array is not None:
            copy[...] = array
        if memory is None:
            _broadcast(self.node, copy)
        self.node.Barrier()
        copy.flags.writeable = False
        return copy, memory is not None

    def _shared_memory(self, size: int) -> SharedMemory | None:
        """Return memory of so many bytes that the ranks of a node share, if it can be had.

        It is a file without a name, which goes with the last process that maps it.  A window of
        MPI's would have to be freed by all ranks together, of which one may be gone.
        """
        path = self.node.bcast(_make_shared(size) if self.local_rank == 0 else None)
        memory = None if path is None else _map(path, size)
        try:
            is_everywhere = not self.node.allreduce(memory is None)
        finally:  # also where another rank is gone
            if path is not None and self.local_rank == 0:
                os.unlink(path)
        return memory if is_everywhere else None


def _ranks_of_this_node(mpi: MPI.Intracomm) -> MPI.Intracomm:
    node = MPI.Intracomm(mpi.Split_type(MPI.COMM_TYPE_SHARED))
    unknown = node.size == 1 and (launcher.local_task() or 0) > 0
    if not mpi.allreduce(unknown):
        return node
    # Open MPI 5 under Slurm's srun may not learn who shares a node, and takes each rank for alone.
    names = mpi.allgather(launcher.node_name())
    return MPI.Intracomm(mpi.Split(names.index(names[mpi.rank]), mpi.rank))


def _broadcast(mpi: MPI.Intracomm, array: Array) -> None:
    """Replace an array by that of the first rank, in pieces whose size every MPI can count."""
    assert array.flags.c_contiguous, "a copy would be broadcast"
    flat = array.reshape(-1)
    step = max(1, PIECE // array.itemsize)
    for begin in range(0, flat.size, step):
        mpi.Bcast(flat[begin : begin + step], ROOT)


def wait_for_all(mpi: MPI.Intracomm) -> None:
    """Wait for all ranks, asleep rather than spinning on a core that others need.  Collective."""
    request = mpi.Ibarrier()
    pause = 1e-5
    while not request.Test():
        time.sleep(pause)
        pause = min(2 * pause, 2e-3)
    HERE.move()


def _attempt(function: Callable[[], T]) -> tuple[T | None, UserError | None]:
    try:
        return function(), None
    except UserError as error:
        return None, error


def _raise_everywhere(errors: list[UserError | None]) -> None:
    for error in errors:
        if error is not None:
            error.on_all_ranks = True
            raise error


def _make_shared(size: int) -> str | None:
    """Make a file of so many bytes in shared memory; return its path, None if there is no room."""
    if free_bytes(SHARED_MEMORY) < size + SHARED_MEMORY_RESERVE:
        return None
    path = None
    try:
        file, path = tempfile.mkstemp(prefix="gan-mpi-data-", dir=SHARED_MEMORY)
        try:
            os.posix_fallocate(file, 0, size)
        finally:
            os.close(file)
    except OSError:
        if path is not None:
            os.unlink(path)
        return None
    return path


def _map(path: str, size: int) -> SharedMemory | None:
    """Map a file, None if it is not here, as between containers on one node."""
    try:
        with open(path, "r+b") as file:
            return SharedMemory(file.fileno(), size)
    except OSError:
        return None


def free_bytes(folder: str) -> int:
    """Return the free space of a file system in bytes, 0 where there is none."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize
