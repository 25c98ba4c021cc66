"""Where MPI finds the numbers of a buffer: in place, in pinned memory, or on a device."""

from collections.abc import Callable
from functools import cached_property, partial
from itertools import product

import torch
from torch import Tensor

from gan_mpi.arrays import Array
from gan_mpi.cluster.copies import copies_of, device_array, nothing
from gan_mpi.errors import invalid_value
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import reads_devices
from gan_mpi.runs.log import say

PROBED = (1, 1000, 1 << 20)  # numbers of the sums that are tried: short, middling and long messages


def is_host(device: torch.device) -> bool:
    """Return whether the numbers of a device lie where MPI and Python read them."""
    return device.type == "cpu"


class InPlace:
    """A buffer of the host, which is summed where it is."""

    def __init__(self, buffer: Tensor) -> None:
        self.buffer = buffer
        self._copies = copies_of(buffer.device)

    @property
    def host(self) -> Tensor:
        """The numbers of the buffer as the host reads and writes them."""
        return self.buffer

    def array(self, begin: int, end: int) -> Array:
        """Return a part of the buffer as MPI reads and writes it."""
        return self.host[begin:end].numpy()

    def fetch(self, begin: int, end: int) -> Callable[[], None]:
        """Begin to bring what the device was asked for so far; return what waits until MPI has it.

        Nothing may change it before that.
        """
        return nothing

    def give_back(self, begin: int, end: int) -> None:
        """Begin to bring sums back, to where nothing looks that the device has yet to do."""

    def join(self) -> None:
        """Let the device go on once all that was given back is there."""


class Pinned(InPlace):
    """A buffer of a device, which crosses through memory of the host beside what is computed."""

    @cached_property
    def host(self) -> Tensor:
        return torch.empty_like(self.buffer, device="cpu", pin_memory=self.buffer.is_cuda)

    def fetch(self, begin: int, end: int) -> Callable[[], None]:
        return self._copies.to_host(self.buffer[begin:end], self.host[begin:end])

    def give_back(self, begin: int, end: int) -> None:
        self._copies.to_device(self.host[begin:end], self.buffer[begin:end])

    def join(self) -> None:
        self._copies.join()


class Direct(InPlace):
    """A buffer of a device, whose memory MPI reads and writes."""

    def array(self, begin: int, end: int) -> Array:
        """Return a part of the buffer, which nobody but MPI may look at by this array."""
        return device_array(self.buffer[begin:end])

    def fetch(self, begin: int, end: int) -> Callable[[], None]:
        """Return what waits until the device has computed it: MPI knows nothing of streams."""
        return self._copies.computed()


def staging_of(buffer: Tensor) -> InPlace:
    """Return how MPI gets at a buffer, unless it is said to read a device's memory."""
    return InPlace(buffer) if is_host(buffer.device) else Pinned(buffer)


def require_direct_sums(comm: Communicator, device: torch.device) -> None:
    """Raise UserError unless MPI sums what lies on a device, as a few sums show.  Collective.

    An MPI that says what it reads is taken at its word; of others the user knows: given memory that
    it cannot read, it may end the program, and a line says what was tried.
    """
    reads = reads_devices()
    comm.agree(partial(_require_reading, device, reads))
    if comm.is_root and reads is None:
        say("--cuda-aware: trying whether MPI sums memory of GPUs; if it cannot, this may end here")
    for dtype, count in product((torch.float, torch.double), PROBED):
        mine = torch.full((count,), comm.rank + 1.0, dtype=dtype, device=device)
        direct = Direct(mine)
        direct.fetch(0, count)()
        comm.sum_in_place(direct.array(0, count))
        expected = comm.world_size * (comm.world_size + 1) / 2
        wrong = int(mine.ne(expected).sum())
        comm.agree(partial(_require_none, wrong, count))


def _require_reading(device: torch.device, reads: bool | None) -> None:
    if is_host(device):
        raise invalid_value(
            "cuda_aware", "it is for GPUs, and ranks compute on CPUs; leave it out", exit_code=1
        )
    if reads is False:
        raise invalid_value(
            "cuda_aware", "this MPI says that it reads no memory of GPUs; leave it out", exit_code=1
        )


def _require_none(wrong: int, count: int) -> None:
    if wrong:
        raise invalid_value(
            "cuda_aware",
            f"MPI summed {wrong} of {count} numbers of a GPU's memory wrongly; leave it out, and "
            "gradients cross through memory of the host",
            exit_code=1,
        )
