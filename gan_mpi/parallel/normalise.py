"""Batches normalised over all ranks by fused kernels, and the same in plain arithmetic."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gan_mpi.clock import Clock
from gan_mpi.cluster.copies import brought
from gan_mpi.mpi.comm import Communicator

normalised_backward = torch.ops.aten.native_batch_norm_backward


@dataclass(frozen=True)
class Over:
    """What is normalised together: a batch over the ranks of `comm`, or this rank's if None.

    `sizes` are this rank's images of each of the batches that lie behind one another in the inputs,
    and are normalised apart.  Their sums cross MPI in one message.  `clock` counts the time.
    """

    comm: Communicator | None
    sizes: tuple[int, ...]
    eps: float
    clock: Clock


class SumContext(Protocol):
    """What autograd keeps of a sum for its backward."""

    comm: Communicator


class _SumOverRanks(torch.autograd.Function):
    """y = sum over ranks of x.  Each rank's loss depends on y, so the backward is the same sum."""

    @staticmethod
    def forward(ctx: SumContext, tensor: Tensor, comm: Communicator) -> Tensor:
        ctx.comm = comm
        host = brought(tensor)
        with comm.clock.phase("batch_norm_sums"):
            comm.sum_in_place(host.numpy())
        return host.to(tensor.device, non_blocking=True)

    @staticmethod
    def backward(ctx: SumContext, gradient: Tensor) -> tuple[Tensor, None]:
        return _SumOverRanks.apply(gradient, ctx.comm), None


def all_reduce_sum(comm: Communicator | None, tensor: Tensor) -> Tensor:
    """Return the sum of a float32 or float64 tensor over ranks; differentiable.  Collective.

    The backward communicates too, so all ranks must run it, in the same order.  Nothing crosses MPI
    where one rank, or None, is all there is.
    """
    if comm is None or comm.world_size == 1:
        return tensor
    return _SumOverRanks.apply(tensor, comm)


def rows(maps: Tensor) -> Tensor:
    """Return (N, C, H, W) or (N, C) as (N*H*W, C), without a copy if it is in channels_last."""
    pixels = maps.movedim(1, -1)
    return pixels.reshape(pixels.shape[:-1].numel(), maps.shape[1])


def normalise(inputs: Tensor, weight: Tensor, bias: Tensor, over: Over) -> tuple[Tensor, Tensor]:
    """Normalise inputs (N, C) or (N, C, H, W) by channel over images and ranks.  Collective.

    N may be 0.  Maps are returned in channels_last.  Also returns the statistics by batch,
    (batches, 1 + 2C) in float64: its count of pixels, means, and biased variances.  The backward,
    which may be differentiated again, is collective too.
    """
    if inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    with over.clock.phase("batch_norm"):
        return _Normalise.apply(inputs, weight, bias, over)


class NormaliseContext(Protocol):
    """What autograd keeps of a normalisation for its backward."""

    over: Over
    saved_tensors: tuple[Tensor, Tensor, Tensor, Tensor]
    needs_input_grad: tuple[bool, bool, bool, bool]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors."""

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs have no gradient."""


class _Normalise(torch.autograd.Function):
    """Two passes over the inputs forward, and three over inputs and gradient backward."""

    @staticmethod
    def forward(
        ctx: NormaliseContext, inputs: Tensor, weight: Tensor, bias: Tensor, over: Over
    ) -> tuple[Tensor, Tensor]:
        batches, outputs = inputs.split(over.sizes), torch.empty_like(inputs)
        moments = torch.stack([_moments(batch, weight.dtype) for batch in batches])
        statistics = _statistics(all_reduce_sum(over.comm, moments))
        for batch, part, facts in zip(batches, outputs.split(over.sizes), statistics, strict=True):
            _, mean, variance = _split(facts.to(weight))
            _scale(rows(batch), weight, bias, mean, variance, over.eps, rows(part))
        ctx.over = over
        ctx.save_for_backward(inputs, weight, bias, statistics)
        ctx.mark_non_differentiable(statistics)
        return outputs, statistics

    @staticmethod
    def backward(
        ctx: NormaliseContext, gradient: Tensor, of_statistics: None
    ) -> tuple[Tensor | None, ...]:
        gradients = _gradients_again if torch.is_grad_enabled() else _gradients
        with ctx.over.clock.phase("batch_norm"):
            return *gradients(ctx, gradient), None


def _gradients(ctx: NormaliseContext, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients of inputs, if they want one, weight and bias.  Collective."""
    inputs, weight, _, statistics = ctx.saved_tensors
    over = ctx.over
    batches = [rows(batch) for batch in inputs.split(over.sizes)]
    gradients = [rows(part) for part in gradient.split(over.sizes)]
    mine = torch.stack(
        [
            _slopes(batch, slope, weight, facts, over.eps)
            for batch, slope, facts in zip(batches, gradients, statistics, strict=True)
        ]
    )
    of_weight, of_bias = mine.sum(0)
    if not ctx.needs_input_grad[0]:
        return None, of_weight, of_bias
    total = all_reduce_sum(over.comm, mine.double())
    of_inputs = torch.empty_like(inputs)
    parts = [rows(part) for part in of_inputs.split(over.sizes)]
    for number, (batch, slope, part) in enumerate(zip(batches, gradients, parts, strict=True)):
        facts = statistics[number], total[number]
        _write_gradient(batch, slope, weight, *facts, over.eps, part)
    return of_inputs, of_weight, of_bias


def _split(facts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a batch's count (1,), means and variances (C,)."""
    count, mean, variance = facts.split([1, len(facts) // 2, len(facts) // 2])
    return count, mean, variance


def _moments(batch: Tensor, dtype: torch.dtype) -> Tensor:
    """Return count, sums and sums of squares by channel (1 + 2C,) of this rank's, in float64.

    The kernel adds one number after the other in the precision of its input.  So it is given each
    pixel of a map apart, in `dtype`, and vectors in float64; what comes of it is added in float64.
    """
    images, channels = batch.shape[:2]
    if not images:
        return batch.new_zeros(1 + 2 * channels, dtype=torch.double)
    apart = batch.movedim(1, -1).flatten(1).to(dtype) if batch.dim() == 4 else batch.double()
    mean, variance = torch.batch_norm_update_stats(apart, None, None, 0.0)
    means, variances = mean.double().view(-1, channels), variance.double().view(-1, channels)
    count = means.new_full((1,), float(len(means)))
    squares = (variances + means.square()).sum(0)
    return images * torch.cat([count, means.sum(0), squares])


def _statistics(moments: Tensor) -> Tensor:
    """Return counts, means and biased variances (batches, 1 + 2C) of sums over all ranks."""
    channels = moments.shape[1] // 2
    count, total, squares = moments.split([1, channels, channels], dim=1)
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return torch.cat([count, mean, variance], dim=1)


def _scale(
    batch: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    out: Tensor,
) -> None:
    """Write weight * (batch - mean) / sqrt(variance + eps) + bias, by channel, to `out`."""
    if len(batch):
        unused = weight.new_empty(0), weight.new_empty(0)
        torch.native_batch_norm(
            batch, weight, bias, mean, variance, False, 0.0, eps, out=(out, *unused)
        )


def _slopes(batch: Tensor, gradient: Tensor, weight: Tensor, facts: Tensor, eps: float) -> Tensor:
    """Return this rank's gradients of weight and bias (2, C)."""
    if not len(batch):
        return weight.new_zeros(2, len(weight))
    _, mean, variance = _split(facts.to(weight))
    unused = weight.new_empty(0), weight.new_empty(0)  # CUDA's kernel wants them all the same
    _, of_weight, of_bias = normalised_backward(
        gradient, batch, weight, mean, variance, *unused, False, eps, [False, True, True]
    )
    return torch.stack([of_weight, of_bias])


def _write_gradient(
    batch: Tensor,
    gradient: Tensor,
    weight: Tensor,
    facts: Tensor,
    slopes: Tensor,
    eps: float,
    out: Tensor,
) -> None:
    """Write the gradient of a batch to `out`; `slopes` (2, C) are those of weight and bias of all.

    With x the normalised inputs and g the gradient, and means over the whole batch, it is
    weight / deviation * (g - mean(g) - x * mean(g * x)).
    """
    count, mean, variance = _split(facts)
    of_weight, of_bias = slopes / count
    inverse = torch.rsqrt(variance + eps)
    scale = weight.double() * inverse
    tilt = -scale * inverse * of_weight
    offset = -scale * of_bias - tilt * mean
    zero, one = torch.zeros_like(weight), torch.ones_like(weight)
    _scale(batch, tilt.to(weight), offset.to(weight), zero, one, 0.0, out)
    out.addcmul_(gradient, scale.to(weight))


def _gradients_again(ctx: NormaliseContext, gradient: Tensor) -> list[Tensor | None]:
    """Return the gradients as functions of which autograd knows every step.  Collective."""
    tensors = ctx.saved_tensors[:3]
    with torch.enable_grad():
        outputs = normalise_plainly(*tensors, ctx.over)
        wanted = [each for each, n in zip(tensors, ctx.needs_input_grad, strict=False) if n]
        found = iter(torch.autograd.grad(outputs, wanted, gradient, create_graph=True))
    return [next(found) if needed else None for needed in ctx.needs_input_grad[:3]]


def normalise_plainly(inputs: Tensor, weight: Tensor, bias: Tensor, over: Over) -> Tensor:
    """Return what normalise() does, by arithmetic that can be differentiated often.  Collective."""
    batches = inputs.split(over.sizes)
    moments = torch.stack([_plain_moments(rows(batch)) for batch in batches])
    statistics = _statistics(all_reduce_sum(over.comm, moments))
    shape = (1, -1, *[1] * (inputs.dim() - 2))
    outputs = []
    for batch, facts in zip(batches, statistics, strict=True):
        _, mean, variance = _split(facts)
        scale = weight * torch.rsqrt(variance + over.eps).to(weight)
        centred = batch - mean.to(weight).view(shape)
        outputs.append(torch.addcmul(bias.view(shape), centred, scale.view(shape)))
    return torch.cat(outputs).to(inputs.dtype)


def _plain_moments(batch: Tensor) -> Tensor:
    wide = batch.double()
    count = wide.new_full((1,), float(len(wide)))
    return torch.cat([count, wide.sum(0), wide.square().sum(0)])
