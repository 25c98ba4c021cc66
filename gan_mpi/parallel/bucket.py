"""Gradients averaged over ranks.

A bucket is one flat buffer a network: [gradients | sums | count | stop flag | 1.0].  Every
rank adds its sums over samples, one Allreduce adds the ranks, and all is divided by the
global count, so that shares of any size, none too, give the mean over the global batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gan_mpi.arrays import Array
from gan_mpi.mpi.comm import Communicator

FACTS = 3  # numbers at the end of a bucket: count, stop flag and 1.0


@dataclass(frozen=True)
class Averages:
    """What one Allreduce told all ranks: means over the global batch, and whether to stop."""

    means: dict[str, float]
    stop: bool


@dataclass(frozen=True)
class Sums:
    """What a bucket holds, of one rank or of all: sums over `count` samples, float64 by name."""

    gradients: Array  # (parameters of the network,)
    sums: dict[str, float]
    count: float
    nbytes: int  # that cross MPI


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
        self.host = self.buffer
        if first.is_cuda:
            self.host = torch.empty_like(self.buffer, device="cpu", pin_memory=True)
        self.observer: Observer | None = None
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view

    def zero(self) -> None:
        """Set all gradients to zero, without replacing the views."""
        self.buffer.zero_()

    def check_views(self) -> None:
        """Raise RuntimeError if a gradient no longer lies in the buffer."""
        for parameter, view in zip(self.parameters, self.views, strict=True):
            if parameter.grad is None or parameter.grad.data_ptr() != view.data_ptr():
                raise RuntimeError("a gradient left its bucket: use bucket.zero(), not zero_grad()")


def average_gradients(
    comm: Communicator,
    bucket: GradientBucket,
    sums: Mapping[str, Tensor],
    count: int,
    stop: bool,
) -> Averages:
    """Turn this rank's summed gradients into means over the global batch.  Collective.

    `sums` are 0-d sums over this rank's `count` samples, by name; their global means are
    returned.  The bucket's observer, if there is one, is shown the sums.
    """
    bucket.check_views()
    bucket.tail[: len(sums)] = _stacked(sums)
    bucket.tail[-FACTS:] = bucket.tail.new_tensor([float(count), float(stop), 1.0])
    if bucket.host is not bucket.buffer:
        bucket.host.copy_(bucket.buffer)  # waits for what the device has yet to compute
    mine = None if bucket.observer is None else _read(bucket, sums)
    with comm.clock.phase("communication"):
        comm.sum_in_place(bucket.host.numpy())
    *totals, global_count, stops, ones = bucket.host[-len(bucket.tail) :].tolist()
    if ones != comm.world_size:
        raise RuntimeError(f"the sum of a one from each of {comm.world_size} ranks is {ones}")
    if bucket.observer is not None and mine is not None:
        bucket.observer(mine, _read(bucket, sums))
    if bucket.host is not bucket.buffer:
        bucket.buffer.copy_(bucket.host)
    bucket.gradients.div_(global_count)
    means = {name: totals[i] / global_count for i, name in enumerate(sums)}
    return Averages(means, stops > 0)


def _read(bucket: GradientBucket, names: Mapping[str, Tensor]) -> Sums:
    """Return a copy of what the host's side of a bucket holds."""
    host = bucket.host.numpy().copy()
    gradients, tail = np.split(host, [len(bucket.gradients)])
    named = dict(zip(names, tail.tolist(), strict=False))
    return Sums(gradients, named, float(tail[-FACTS]), host.nbytes)


def _stacked(sums: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([total.detach().double() for total in sums.values()])


def global_means(comm: Communicator, sums: Mapping[str, Tensor], count: int) -> dict[str, float]:
    """Return means over the global batch of 0-d sums over this rank's `count`.  Collective."""
    host = torch.cat([_stacked(sums).cpu(), torch.tensor([float(count)]).double()])
    with comm.clock.phase("communication"):
        comm.sum_in_place(host.numpy())
    return dict(zip(sums, (host[:-1] / host[-1]).tolist(), strict=True))
