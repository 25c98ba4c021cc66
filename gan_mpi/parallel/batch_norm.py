"""Batch normalisation over the global batch."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from gan_mpi.mpi.comm import Communicator


class SumContext(Protocol):
    """What autograd keeps of a sum for its backward."""

    comm: Communicator


class _SumOverRanks(torch.autograd.Function):
    """y = sum over ranks of x.  Each rank's loss depends on y, so the backward is the same sum."""

    @staticmethod
    def forward(ctx: SumContext, tensor: Tensor, comm: Communicator) -> Tensor:
        ctx.comm = comm
        host = tensor.detach().cpu().clone().contiguous()
        with comm.clock.phase("batch_norm"):
            comm.sum_in_place(host.numpy())
        return host.to(tensor.device)

    @staticmethod
    def backward(ctx: SumContext, gradient: Tensor) -> tuple[Tensor, None]:
        return _SumOverRanks.apply(gradient, ctx.comm), None


def all_reduce_sum(comm: Communicator, tensor: Tensor) -> Tensor:
    """Return the sum of a float32 or float64 tensor over ranks; differentiable.  Collective.

    The backward communicates too, so all ranks must run it, in the same order.
    """
    return _SumOverRanks.apply(tensor, comm)


class BatchNorm(nn.Module):
    """Batch normalisation over the global batch, for (N, C) and (N, C, H, W); any N, 0 too.

    Ioffe and Szegedy, arXiv 1502.03167.  Count, sum and sum of squares are added over images and
    ranks in float64.  Running statistics (biased mean, unbiased variance, weight `momentum` of each
    new batch, as in torch.nn.BatchNorm2d) are kept aside by every pass that trains this layer and
    committed with the network's update; other passes leave no trace.  With `local`, each rank
    normalises by its own share, and the running statistics are the average over ranks.
    """

    comm: Communicator | None = None  # None: the only rank
    local = False
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
        shape = (1, -1, *[1] * (inputs.dim() - 2))
        if self.training:
            mean, variance = self._batch_statistics(inputs)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = self.weight * torch.rsqrt(variance + self.eps).to(inputs.dtype)
        centred = inputs - mean.to(inputs.dtype).view(shape)
        return torch.addcmul(self.bias.view(shape), centred, scale.view(shape))

    def _batch_statistics(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        total, squares = _channel_sums(inputs)
        count = total.new_tensor([inputs.numel() // inputs.shape[1]])
        moments = torch.cat([count, total, squares])
        if self.comm is not None and not self.local:
            moments = all_reduce_sum(self.comm, moments)
        count, total, squares = moments.split([1, inputs.shape[1], inputs.shape[1]])
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        if torch.is_grad_enabled() and self.weight.requires_grad:
            unbiased = variance * count / (count - 1).clamp(min=1)
            statistics = torch.stack([mean, unbiased])
            self._pending.append((count.detach(), statistics.detach()))
        return mean, variance

    def commit(self) -> None:
        """Move the running statistics towards those of the passes since the last commit.

        Collective if local.
        """
        for count, statistics in self._pending:
            if self.comm is not None and self.local:
                weighted = torch.cat([count, (count * statistics).flatten()])
                count, total = all_reduce_sum(self.comm, weighted).tensor_split([1])
                statistics = (total / count).view_as(statistics)
            mean, variance = statistics
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_(variance.to(self.running_var), self.momentum)
        self._pending.clear()


def _channel_sums(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum and sum of squares (C,) in float64.

    Each image is summed about its own mean in its own precision, which spares a copy of all
    pixels in float64 and loses nothing where the mean is far from zero.
    """
    if inputs.dim() == 2:
        wide = inputs.double()
        return wide.sum(0), wide.square().sum(0)
    pixels = inputs.flatten(2)
    means = pixels.mean(2, keepdim=True)
    spread = (pixels - means).square().sum(2).double()
    area, means = pixels.shape[2], means.squeeze(2).double()
    return area * means.sum(0), (spread + area * means.square()).sum(0)


def batch_norms(network: nn.Module) -> Iterator[BatchNorm]:
    """Yield the batch normalisation layers of a network."""
    return (layer for layer in network.modules() if isinstance(layer, BatchNorm))


def connect_batch_norm(comm: Communicator, network: nn.Module, local: bool = False) -> None:
    """Let every batch norm of a network span the ranks, or only its statistics if local."""
    for layer in batch_norms(network):
        layer.comm, layer.local = comm, local


def commit_running_statistics(network: nn.Module) -> None:
    """Commit the running statistics of a network with its update.  Collective if local."""
    for layer in batch_norms(network):
        layer.commit()
