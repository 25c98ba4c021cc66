"""Copies between a device and the host, beside what the device computes."""

import ctypes
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gan_mpi.arrays import Array, DType

NUMBERS: dict[torch.dtype, DType] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}


class CopyStream:
    """A stream of a GPU for copies to pinned memory and back."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    def computed(self) -> Callable[[], None]:
        """Return what waits until the device has done all that it was asked for so far."""
        return _event_of(torch.cuda.current_stream(self.device)).synchronize

    def to_host(self, source: Tensor, target: Tensor) -> Callable[[], None]:
        """Copy what the device has been asked for so far; return what waits until it is there.

        Nothing may change `source` before.
        """
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
        return _event_of(self._stream).synchronize

    def to_device(self, source: Tensor, target: Tensor) -> None:
        """Copy to where nothing looks that the device has yet to do."""
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def join(self) -> None:
        """Let what the device is asked for from now on wait for all copies."""
        torch.cuda.current_stream(self.device).wait_stream(self._stream)


def _event_of(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """Return what has happened when a stream has done all that it was asked for so far.

    Who waits for it sleeps: threads that draw batches want the core.
    """
    event = torch.cuda.Event(blocking=True)
    event.record(stream)
    return event


class PlainCopies:
    """Copies of a device that has no streams, each of which is there when it returns."""

    def computed(self) -> Callable[[], None]:
        return nothing

    def to_host(self, source: Tensor, target: Tensor) -> Callable[[], None]:
        target.copy_(source)
        return nothing

    def to_device(self, source: Tensor, target: Tensor) -> None:
        target.copy_(source)

    def join(self) -> None:
        pass


def nothing() -> None:
    """Do nothing."""


def copies_of(device: torch.device) -> CopyStream | PlainCopies:
    """Return what copies between a device and the host."""
    return CopyStream(device) if device.type == "cuda" else PlainCopies()


def brought(tensor: Tensor) -> Tensor:
    """Return a contiguous copy on the host, in memory that a device reads by itself."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return host.copy_(tensor.detach())


def device_array(tensor: Tensor) -> Array:
    """Return the memory of a device's contiguous float32 or float64 tensor, for MPI alone to read.

    It has the type and the length that MPI asks for; Python may not look at its numbers.
    """
    assert tensor.is_contiguous(), "MPI would read what lies between"
    memory = (ctypes.c_byte * tensor.nbytes).from_address(tensor.data_ptr())
    return np.frombuffer(memoryview(memory), NUMBERS[tensor.dtype])
