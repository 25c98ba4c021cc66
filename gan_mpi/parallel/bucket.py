"""Gradients averaged over ranks.

A bucket is one flat buffer a network: [gradients | sums | count | stop flag | 1.0], the last three
on the host alone.  Every
rank adds its sums over samples, Allreduce adds the ranks, and all is divided by the
global count, so that shares of any size, none too, give the mean over the global batch.

Where ranks should compute meanwhile, the buffer is cut in pieces, each of which crosses as soon
as a backward has finished its gradients.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gan_mpi.arrays import Array
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.linear import Linear

FACTS = 3  # numbers at the end of a bucket: count, stop flag and 1.0
LEAST = 1 << 16  # numbers of a piece, at least: of fewer, a message is mostly latency
IN_CACHE = 1 << 17  # numbers that stay in a cache of half a MB or more
MESSAGE = 1 << 20  # numbers of a message of a piece, at most: of more, Open MPI takes longer


@dataclass(frozen=True)
class Averages:
    """What the sums over ranks told them: means over the global batch, and whether to stop.

    `figures` (n,) are the means by `names`, and `norm` is the length of the mean gradient, both
    float64.  They are on the host, or on the device where one rank has all: nothing has crossed.
    """

    names: tuple[str, ...]
    figures: Tensor
    norm: Tensor
    on_host: bool
    stop: bool

    @property
    def means(self) -> dict[str, float]:
        """The means by name, read from where they are."""
        return dict(zip(self.names, self.figures.tolist(), strict=True))


@dataclass(frozen=True)
class Sums:
    """What a bucket holds, of one rank or of all: sums over `count` samples, float64 by name."""

    gradients: Array  # (parameters of the network,)
    sums: dict[str, float]
    count: float
    nbytes: int  # that cross MPI


@dataclass
class Piece:
    """Gradients that cross together, in messages that are views of the host's side of a bucket."""

    messages: list[Array]
    parameters: set[int]  # their numbers in the network
    unfinished: set[int] = field(default_factory=set)  # of them, in the backward that goes on


def is_host(device: torch.device) -> bool:
    """Return whether the numbers of a device lie where MPI and Python read them."""
    return device.type == "cpu"


class Observer(Protocol):
    """Who watches the sums of a bucket."""

    def __call__(self, mine: Sums, total: Sums) -> None:
        """Look at this rank's sums and at those of all ranks, before they are divided."""


class GradientBucket:
    """The gradients of a network as views into one flat buffer that crosses MPI."""

    def __init__(self, network: nn.Module, room: int) -> None:
        """Make room for the parameters of `network` and for at most `room` sums besides."""
        self.parameters = list(network.parameters())
        first = self.parameters[0]
        sizes = [parameter.numel() for parameter in self.parameters]
        self.buffer = torch.zeros(sum(sizes) + room + FACTS, dtype=first.dtype, device=first.device)
        self.gradients = self.buffer[: sum(sizes)]
        self.tail = self.buffer[sum(sizes) :]
        self.views = [
            view.view_as(parameter)
            for view, parameter in zip(self.gradients.split(sizes), self.parameters, strict=True)
        ]
        self.on_host = is_host(first.device)
        self.observer: Observer | None = None
        self.pieces: list[Piece] = []  # none: all crosses as one message, for which ranks wait
        self._sent = 0  # pieces of this update
        self._comm: Communicator | None = None  # in the backward that finishes gradients
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view
        layers = {m.large_weight(): m for m in network.modules() if isinstance(m, Linear)}
        self._written = {
            number: layers[parameter]
            for number, parameter in enumerate(self.parameters)
            if parameter in layers
        }
        self._added = [v for number, v in enumerate(self.views) if number not in self._written]

    @cached_property
    def host(self) -> Tensor:
        """The buffer, or a copy of it in memory that MPI reads and writes."""
        if self.on_host:
            return self.buffer
        return torch.empty_like(self.buffer, device="cpu", pin_memory=self.buffer.is_cuda)

    def zero(self) -> None:
        """Let gradients begin at zero; those that a layer writes begin with what it writes."""
        torch._foreach_zero_([*self._added, self.tail])
        for number, layer in self._written.items():
            self.parameters[number].grad = None
            layer.give_room(self.views[number])

    def cut(self) -> None:
        """Let gradients cross in pieces, the last layers' first: a backward begins with them."""
        host, end, first = self.host.numpy(), len(self.gradients), len(self.parameters)
        begin = end
        for number in reversed(range(first)):
            begin -= self.parameters[number].numel()
            if end - begin >= LEAST or not number:
                messages = np.split(host[begin:end], range(MESSAGE, end - begin, MESSAGE))
                self.pieces.append(Piece(messages, set(range(number, first))))
                end, first = begin, number

    def send_when_finished(self) -> None:
        """Let each piece cross from within the backward that finishes its gradients.

        That is the one in `finishing()`.
        """
        for number, parameter in enumerate(self.parameters):
            parameter.register_post_accumulate_grad_hook(partial(self._finish, number))

    @contextmanager
    def finishing(self, comm: Communicator) -> Iterator[None]:
        """Say that the backward within adds the last to this update's gradients.  Collective."""
        self._comm = comm
        for piece in self.pieces:
            piece.unfinished = set(piece.parameters)
        try:
            yield
        finally:
            self._comm = None

    def _finish(self, number: int, parameter: Tensor) -> None:
        if self._comm is None or self.observer is not None:  # who wants this rank's sums too
            return
        self._settle(number)
        for piece in self.pieces[self._sent :]:
            piece.unfinished.discard(number)
        while self._sent < len(self.pieces) and not self.pieces[self._sent].unfinished:
            self._send(self._comm)

    def _send(self, comm: Communicator) -> None:
        for message in self.pieces[self._sent].messages:
            comm.begin_sum(message)
        self._sent += 1

    def sum(self, comm: Communicator, meanwhile: Callable[[], None]) -> None:
        """Replace the host's side by its sum over ranks.  Collective.

        If it crosses in pieces, this rank does something else meanwhile.
        """
        host = self.host.numpy()
        if not self.pieces:
            with comm.clock.phase("communication"):
                comm.sum_in_place(host)
            return
        while self._sent < len(self.pieces):
            self._send(comm)
        self._sent = 0
        comm.begin_sum(host[len(self.gradients) :])
        meanwhile()
        comm.under_way.wait()

    def _settle(self, number: int) -> None:
        """Bring the gradient of a parameter to its place, if a layer was to write it there.

        It did not where nothing was learned, or in a backward that uses the layer twice.
        """
        layer = self._written.get(number)
        if layer is None:
            return
        parameter, view = self.parameters[number], self.views[number]
        is_unused = layer.take_room() is not None
        if parameter.grad is not None:
            if parameter.grad.data_ptr() != view.data_ptr():
                view.copy_(parameter.grad)
            parameter.grad = view
        elif is_unused:
            parameter.grad = view.zero_()

    def settle(self) -> None:
        """Let all gradients lie in the buffer.  Raises RuntimeError if somebody moved one."""
        for number in self._written:
            self._settle(number)
        for parameter, view in zip(self.parameters, self.views, strict=True):
            if parameter.grad is None or parameter.grad.data_ptr() != view.data_ptr():
                raise RuntimeError("a gradient left its bucket: use bucket.zero(), not zero_grad()")


def nothing() -> None:
    """Do nothing while gradients are summed."""


def average_gradients(
    comm: Communicator,
    bucket: GradientBucket,
    sums: Mapping[str, Tensor],
    count: int,
    stop: bool,
    meanwhile: Callable[[], None] = nothing,
) -> Averages:
    """Turn this rank's summed gradients into means over the global batch.  Collective.

    `sums` are 0-d sums over this rank's `count` samples, by name; their global means are
    returned.  The bucket's observer, if there is one, is shown the sums.  If the bucket crosses
    in pieces, `meanwhile` is called while they are under way; it may not communicate.
    """
    bucket.settle()
    bucket.tail[: len(sums)] = _stacked(sums)
    buffer, global_count = bucket.buffer, float(count)
    crosses = comm.world_size > 1 or bucket.on_host or bucket.observer is not None
    if crosses:
        global_count, stop = _cross(comm, bucket, sums, count, stop, meanwhile)
        buffer = bucket.host
    gradients, tail = buffer.split([len(bucket.gradients), len(bucket.tail)])
    if buffer is not bucket.buffer:
        bucket.gradients.copy_(gradients, non_blocking=True)
    norm = _divide(bucket.gradients, global_count)
    if buffer is not bucket.buffer:
        norm = torch.linalg.vector_norm(gradients) / global_count
    figures = tail[: len(sums)].double() / global_count
    return Averages(tuple(sums), figures, norm.double(), crosses, stop)


def _divide(gradients: Tensor, count: float) -> Tensor:
    """Divide by a count in place; return the length of what comes of it, 0-d.

    On a CPU that is by pieces, which are in a cache still when they are looked at again.
    """
    size = len(gradients) if gradients.device.type != "cpu" else IN_CACHE
    norms = [torch.linalg.vector_norm(piece.div_(count)) for piece in gradients.split(size)]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


def _cross(
    comm: Communicator,
    bucket: GradientBucket,
    sums: Mapping[str, Tensor],
    count: int,
    stop: bool,
    meanwhile: Callable[[], None],
) -> tuple[float, bool]:
    """Replace the host's side by its sum; return the count over all ranks, and whether to stop.

    Collective.
    """
    host = bucket.host
    if not bucket.on_host:
        host.copy_(bucket.buffer)  # waits for what the device has yet to compute
    host[-FACTS:] = host.new_tensor([float(count), float(stop), 1.0])
    mine = None if bucket.observer is None else _read(bucket, sums)
    bucket.sum(comm, meanwhile)
    global_count, stops, ones = host[-FACTS:].tolist()
    if ones != comm.world_size:
        raise RuntimeError(f"the sum of a one from each of {comm.world_size} ranks is {ones}")
    if bucket.observer is not None and mine is not None:
        bucket.observer(mine, _read(bucket, sums))
    return global_count, stops > 0


def _read(bucket: GradientBucket, names: Mapping[str, Tensor]) -> Sums:
    """Return a copy of what the host's side of a bucket holds."""
    host = bucket.host.numpy().copy()
    gradients, tail = np.split(host, [len(bucket.gradients)])
    named = dict(zip(names, tail.tolist(), strict=False))
    return Sums(gradients, named, float(tail[-FACTS]), host.nbytes)


def _stacked(sums: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([total.detach() for total in sums.values()]).double()


def global_means(comm: Communicator, sums: Mapping[str, Tensor], count: int) -> dict[str, float]:
    """Return means over the global batch of 0-d sums over this rank's `count`.  Collective."""
    host = torch.cat([_stacked(sums).cpu(), torch.tensor([float(count)]).double()])
    with comm.clock.phase("communication"):
        comm.sum_in_place(host.numpy())
    return dict(zip(sums, (host[:-1] / host[-1]).tolist(), strict=True))
