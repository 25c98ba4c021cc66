"""Gradients averaged over ranks.

Every rank adds its sums over samples, Allreduce adds the ranks, and all is divided by the global
count, so that shares of any size, none too, give the mean over the global batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_mpi.mpi.comm import Communicator, WrongSum
from gan_mpi.parallel.bucket import FACTS, GradientBucket, Sums
from gan_mpi.parallel.staging import nothing

IN_CACHE = 1 << 17  # numbers that stay in a cache of half a MB or more


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
    in pieces, `meanwhile` is called while they are under way, or, on a device, on their way to the
    host; it may not communicate.
    """
    bucket.settle()
    bucket.tail[: len(sums)] = _stacked(sums)
    tail, global_count = bucket.tail, float(count)
    crosses = comm.world_size > 1 or bucket.on_host or bucket.observer is not None
    if crosses:
        global_count, stop = _cross(comm, bucket, sums, count, stop, meanwhile)
        tail = bucket.host[len(bucket.gradients) :]
    norm = _divide(bucket.gradients, global_count)
    if crosses and bucket.is_direct:
        norm = norm.cpu()
    elif crosses and not bucket.on_host:  # which need not wait for what the device does meanwhile
        norm = torch.linalg.vector_norm(bucket.host[: len(bucket.gradients)]) / global_count
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
    """Replace all by its sum; return the count over all ranks, and whether to stop.  Collective."""
    facts = bucket.host[-FACTS:]
    facts.copy_(facts.new_tensor([float(count), float(stop), 1.0]))
    mine = None
    if bucket.observer is not None:
        bucket.fetch_tail()()
        mine = _read(bucket, sums)
    bucket.sum(comm, meanwhile)
    global_count, stops, ones = facts.tolist()
    if ones != comm.world_size:
        raise WrongSum(f"the sum of a one from each of {comm.world_size} ranks is {ones}")
    if bucket.observer is not None and mine is not None:
        bucket.observer(mine, _read(bucket, sums))
    return global_count, stops > 0


def _read(bucket: GradientBucket, names: Mapping[str, Tensor]) -> Sums:
    """Return a copy of the gradients of a bucket, and of the host's tail."""
    gradients = bucket.gradients.cpu().numpy().copy()
    tail = bucket.host[len(gradients) :].tolist()
    named = dict(zip(names, tail, strict=False))
    return Sums(gradients, named, tail[-FACTS], bucket.buffer.nbytes)


def _stacked(sums: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([total.detach() for total in sums.values()]).double()


def global_means(comm: Communicator, sums: Mapping[str, Tensor], count: int) -> dict[str, float]:
    """Return means over the global batch of 0-d sums over this rank's `count`.  Collective."""
    host = torch.cat([_stacked(sums).cpu(), torch.tensor([float(count)]).double()])
    with comm.clock.phase("communication"):
        comm.sum_in_place(host.numpy())
    return dict(zip(sums, (host[:-1] / host[-1]).tolist(), strict=True))
