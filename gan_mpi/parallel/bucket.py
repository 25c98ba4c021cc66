"""The gradients of a network in one buffer, which crosses MPI whole or in pieces.

It is flat: [gradients | sums | count | stop flag | 1.0], the last three on the host alone.

Where ranks should compute meanwhile, or a device should copy meanwhile, it is cut in pieces.  Each
crosses as soon as a backward has finished its gradients; a device begins to bring it then.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gan_mpi.arrays import Array
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.linear import Linear
from gan_mpi.parallel.staging import Direct, InPlace, nothing, staging_of

FACTS = 3  # numbers at the end of a bucket: count, stop flag and 1.0
LEAST = 1 << 16  # numbers of a piece, at least: of fewer, a message is mostly latency
MESSAGE = 1 << 20  # numbers of a message of a piece, at most: of more, Open MPI takes longer


@dataclass(frozen=True)
class Sums:
    """What a bucket holds, of one rank or of all: sums over `count` samples, float64 by name."""

    gradients: Array  # (parameters of the network,)
    sums: dict[str, float]
    count: float
    nbytes: int  # that cross MPI


@dataclass
class Piece:
    """Gradients that cross together, in messages that are views of what MPI sees of a bucket."""

    begin: int  # in the buffer
    end: int
    messages: list[Array]
    parameters: set[int]  # their numbers in the network
    unfinished: set[int] = field(default_factory=set)  # of them, in the backward that goes on
    arrive: Callable[[], None] = nothing  # waits until MPI may have them


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
        self.staging = staging_of(self.buffer)
        self.of_pieces = self.staging
        self.on_host = type(self.staging) is InPlace
        self.observer: Observer | None = None
        self.pieces: list[Piece] = []  # none: all crosses as one message, for which ranks wait
        self._fetched = self._sent = 0  # pieces of this update
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

    @property
    def host(self) -> Tensor:
        """The buffer, or what the host has of it."""
        return self.staging.host

    def zero(self) -> None:
        """Let gradients begin at zero; those that a layer writes begin with what it writes."""
        torch._foreach_zero_([*self._added, self.tail])
        for number, layer in self._written.items():
            self.parameters[number].grad = None
            layer.give_room(self.views[number])

    def cut(self, direct: bool = False) -> None:
        """Let gradients cross in pieces, the last layers' first: a backward begins with them.

        With `direct` MPI reads and writes those of a device itself.
        """
        self.of_pieces = Direct(self.buffer) if direct else self.staging
        end, first = len(self.gradients), len(self.parameters)
        begin = end
        for number in reversed(range(first)):
            begin -= self.parameters[number].numel()
            if end - begin >= LEAST or not number:
                array = self.of_pieces.array(begin, end)
                messages = np.split(array, range(MESSAGE, end - begin, MESSAGE))
                self.pieces.append(Piece(begin, end, messages, set(range(number, first))))
                end, first = begin, number

    def bring_when_finished(self) -> None:
        """Let each piece cross from within the backward that finishes its gradients.

        That is the one in `finishing()`.  A device begins to bring it then.
        """
        for number, parameter in enumerate(self.parameters):
            parameter.register_post_accumulate_grad_hook(partial(self._finish, number))

    @contextmanager
    def finishing(self, comm: Communicator) -> Iterator[None]:
        """Say that the backward within adds the last to this update's gradients.  Collective."""
        self._comm = comm
        assert not self._fetched, "an update begins while another is not summed"
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
        for piece in self.pieces[self._fetched :]:
            piece.unfinished.discard(number)
        while self._fetched < len(self.pieces) and not self.pieces[self._fetched].unfinished:
            self._fetch()
            if self.on_host:
                self._send(self._comm)

    def _fetch(self) -> None:
        """Begin to bring the next piece to where MPI has it."""
        piece = self.pieces[self._fetched]
        piece.arrive = self.of_pieces.fetch(piece.begin, piece.end)
        self._fetched += 1

    def _send(self, comm: Communicator) -> None:
        """Begin to sum the next piece, once it is there."""
        piece = self.pieces[self._sent]
        with comm.clock.phase("backward"):  # which a device has yet to end
            piece.arrive()
        for message in piece.messages:
            self._begin_sum(comm, message)
        if comm.under_way.at_once:
            self.of_pieces.give_back(piece.begin, piece.end)
        self._sent += 1

    def _begin_sum(self, comm: Communicator, message: Array) -> None:
        """Begin a sum; of a device's memory wait for it: Open MPI sums there only if it may block.

        The other sums are Iallreduce, whose reduction Open MPI does on the processor.
        """
        if not self.is_direct:
            comm.begin_sum(message)
            return
        with comm.clock.phase("communication"):
            comm.sum_in_place(message)

    def fetch_tail(self) -> Callable[[], None]:
        """Begin to bring the sums besides gradients to the host; return what waits for them."""
        return self.staging.fetch(len(self.gradients), len(self.buffer) - FACTS)

    def sum(self, comm: Communicator, meanwhile: Callable[[], None]) -> None:
        """Replace gradients, and the host's tail, by their sums over ranks.  Collective.

        If they cross in pieces, this rank does something else meanwhile.
        """
        if self.pieces:
            self._sum_pieces(comm, meanwhile)
            return
        self.staging.fetch(0, len(self.buffer) - FACTS)()
        with comm.clock.phase("communication"):
            comm.sum_in_place(self.host.numpy())
        self.staging.give_back(0, len(self.gradients))
        self.staging.join()

    def _sum_pieces(self, comm: Communicator, meanwhile: Callable[[], None]) -> None:
        while self._fetched < len(self.pieces):
            self._fetch()
        arrive = self.fetch_tail()
        if not self.on_host:
            meanwhile()  # a device computes it while what it has computed arrives
        while self._sent < len(self.pieces):
            self._send(comm)
        arrive()
        comm.begin_sum(self.host[len(self.gradients) :].numpy())
        if self.on_host:
            meanwhile()
        comm.under_way.wait()
        for piece in [] if comm.under_way.at_once else self.pieces:
            self.of_pieces.give_back(piece.begin, piece.end)
        self.of_pieces.join()
        self._fetched = self._sent = 0

    @property
    def is_direct(self) -> bool:
        """Whether MPI sums gradients where the device has them, and the host never sees them."""
        return isinstance(self.of_pieces, Direct)

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
