"""Batch normalisation over the global batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from gan_mpi.clock import Clock
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.normalise import Over, all_reduce_sum, normalise


class BatchNorm(nn.Module):
    """Batch normalisation over the global batch, for (N, C) and (N, C, H, W); any N, 0 too.

    Ioffe and Szegedy, arXiv 1502.03167.  Count, sum and sum of squares are added over pixels and
    ranks in float64, and over this rank's images of a pixel in the precision of the network.
    Running statistics (biased mean, unbiased variance, weight `momentum` of each new batch, as in
    torch.nn.BatchNorm2d) are kept aside by every pass that trains this layer and committed with the
    network's update; other passes leave no trace.  With `local`, each rank normalises by its own
    share, and the running statistics are the average over ranks.
    """

    comm: Communicator | None = None  # None: the only rank
    local = False
    native = True  # whether features of this rank alone are normalised by torch's own function
    sizes: tuple[int, ...] | None = None  # of batches that lie behind one another; None: of one
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self._pending: list[tuple[Tensor, Tensor]] = []  # (1,) count; (2, C) statistics

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise per channel.  Collective while training."""
        if not self.training:
            running = self.running_mean, self.running_var
            return batch_norm(inputs, *running, self.weight, self.bias, eps=self.eps)
        comm, clock = (None, Clock()) if self.comm is None else (self.comm, self.comm.clock)
        sizes = self.sizes or (len(inputs),)
        if self.local or (comm is not None and comm.world_size == 1):
            comm = None
        if self.native and comm is None and inputs.dim() == 2 and min(sizes) > 1:
            with clock.phase("batch_norm"):
                return self._natively(inputs, sizes)
        over = Over(comm, sizes, self.eps, clock)
        outputs, statistics = normalise(inputs, self.weight, self.bias, over)
        if self._learns():
            for each in statistics:
                count, mean, variance = each.split([1, len(self.bias), len(self.bias)])
                unbiased = variance * count / (count - 1).clamp(min=1)
                self._pending.append((count, torch.stack([mean, unbiased])))
        return outputs

    def _learns(self) -> bool:
        return torch.is_grad_enabled() and self.weight.requires_grad

    def _natively(self, inputs: Tensor, sizes: Sequence[int]) -> Tensor:
        """Normalise features (N, C) of this rank alone, by torch's own function.

        It is as exact as normalise() for features, not for maps, and some ten calls shorter.
        """
        outputs = []
        for batch in inputs.split(sizes):
            mean, variance = statistics = self.weight.new_zeros(2, len(self.bias))
            affine = self.weight, self.bias
            outputs.append(batch_norm(batch, mean, variance, *affine, True, 1.0, self.eps))
            if self._learns():
                count = statistics.new_full((1,), float(len(batch)))
                self._pending.append((count, statistics))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def commit(self, are_finite: Tensor | None = None) -> None:
        """Move the running statistics towards those of the passes since the last commit.

        Where `are_finite`, 0-d bool, is false, they stay.  Collective if local.
        """
        for count, statistics in self._pending:
            if self.local:
                weighted = torch.cat([count, (count * statistics).flatten()])
                count, total = all_reduce_sum(self.comm, weighted).tensor_split([1])
                statistics = (total / count).view_as(statistics)
            for running, new in zip((self.running_mean, self.running_var), statistics, strict=True):
                towards = new.to(running)
                if are_finite is not None:
                    towards = torch.where(are_finite, towards, running)
                running.lerp_(towards, self.momentum)
        self._pending.clear()

    def forget(self) -> None:
        """Leave out the passes since the last commit."""
        self._pending.clear()


def batch_norms(network: nn.Module) -> Iterator[BatchNorm]:
    """Yield the batch normalisation layers of a network."""
    return (layer for layer in network.modules() if isinstance(layer, BatchNorm))


def connect_batch_norm(comm: Communicator, network: nn.Module, local: bool = False) -> None:
    """Let every batch norm of a network span the ranks, or only its statistics if local."""
    for layer in batch_norms(network):
        layer.comm, layer.local = comm, local


@contextmanager
def normalised_apart(network: nn.Module, sizes: Sequence[int]) -> Iterator[None]:
    """Let a pass take several batches behind one another, each normalised by itself.

    `sizes` are this rank's images of each.
    """
    layers = list(batch_norms(network))
    for layer in layers:
        layer.sizes = tuple(sizes)
    try:
        yield
    finally:
        for layer in layers:
            layer.sizes = None


def forget_statistics(network: nn.Module) -> None:
    """Leave the passes since the last commit out of the running statistics."""
    for layer in batch_norms(network):
        layer.forget()


def commit_running_statistics(network: nn.Module, are_finite: Tensor | None = None) -> None:
    """Commit the running statistics of a network with its update.  Collective if local."""
    for layer in batch_norms(network):
        layer.commit(are_finite)
