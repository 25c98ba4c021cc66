"""Penalties on the slope of D, which is differentiated twice, through batch norm too."""

from dataclasses import replace

import torch
from torch import Tensor

from gan_mpi.arrays import Array
from gan_mpi.config.training import TrainConfig
from gan_mpi.config.values import Ramp, along, is_ramp
from gan_mpi.extras.ramps import along_stream
from gan_mpi.game.batch import Batch
from gan_mpi.game.players import Judge
from gan_mpi.parallel.linear import torchs_layers
from gan_mpi.streams import Purpose, uniforms

TINY = 1e-12  # keeps the slope of a root finite where it is of zero


def slopes(judge: Judge, at: Batch) -> Tensor:
    """Return the squared length (n,) of the gradient of D's logits at samples.

    Collective (batch norm, whose statistics the logits of all ranks share).
    """
    at = replace(at, values=at.values.detach().requires_grad_())
    with torchs_layers():
        logits = judge(at)[:, 0]
    (gradient,) = torch.autograd.grad(logits.sum(), at.values, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def penalties_of_slope_0(config: TrainConfig, step: int) -> dict[str, float]:
    """Return what the penalties that count after so many steps are where D is flat, by name."""
    share = config.share_of_ramp(step)
    named = [name for name in ("r1", "r2") if along(getattr(config, name), share)]
    mixed = config.penalty_every * config.gradient_penalty
    return dict.fromkeys(named, 0.0) | ({"gradient": mixed} if mixed else {})


class GradientPenalty:
    """weight * (|gradient| - 1)^2 on the way from a real to a fake.  arXiv 1704.00028."""

    name = "gradient"

    def __init__(self, config: TrainConfig) -> None:
        """Count it as often as --penalty-every leaves it out."""
        self.weight = config.penalty_every * config.gradient_penalty
        self.seed = config.seed

    def draw(self, kind: str, first: int, last: int) -> dict[str, Array]:
        """Return how much of a mixture each real is."""
        if kind == "fake":
            return {}
        return {"mixing": uniforms(self.seed, Purpose.MIXING, first, last, 1)[:, 0]}

    def __call__(self, judge: Judge, real: Batch | None, fake: Batch | None) -> Tensor | None:
        """Return the penalty, summed over this rank's pairs.  Collective (batch norm)."""
        assert real is not None and fake is not None, "--d-update separate is refused"
        share = real.drawn["mixing"].view(-1, *[1] * (real.values.dim() - 1))
        mixed = replace(real, values=share * real.values + (1 - share) * fake.values)
        lengths = (slopes(judge, mixed) + TINY).sqrt()
        return self.weight * (lengths - 1).square().sum()


class SlopePenalty:
    """weight / 2 * |gradient|^2 at reals (R1) or fakes (R2).

    Mescheder et al., arXiv 1801.04406, 9 and 10.  A weight that changes is that of each sample, by
    its place in its stream.
    """

    def __init__(self, name: str, kind: str, config: TrainConfig) -> None:
        """`name` is that of the setting, r1 or r2, and `kind` that of the samples."""
        self.name, self.kind, self.times = name, kind, config.penalty_every
        self.config = config
        self.weight: Ramp = getattr(config, name)

    def draw(self, kind: str, first: int, last: int) -> dict[str, Array]:
        """Return the weight of each sample, if it changes."""
        if kind != self.kind or not is_ramp(self.weight):
            return {}
        return {self.name: along_stream(self.config, self.weight, kind, first, last)}

    def __call__(self, judge: Judge, real: Batch | None, fake: Batch | None) -> Tensor | None:
        """Return the penalty, summed over this rank's samples.  Collective (batch norm)."""
        samples = real if self.kind == "real" else fake
        if samples is None:
            return None
        if is_ramp(self.weight):
            return 0.5 * self.times * (samples.drawn[self.name] * slopes(judge, samples)).sum()
        return 0.5 * (self.times * float(self.weight)) * slopes(judge, samples).sum()
