"""Penalties on the slope of D, which is differentiated twice, through batch norm too."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gan_mpi.arrays import Array
from gan_mpi.game.batch import Batch
from gan_mpi.game.precision import Applied
from gan_mpi.parallel.linear import torchs_layers
from gan_mpi.streams import Purpose, uniforms

TINY = 1e-12  # keeps the slope of a root finite where it is of zero


def slopes(network: Applied, at: Batch) -> Tensor:
    """Return the squared length (n,) of the gradient of D's logits at samples.

    Collective (batch norm, whose statistics the logits of all ranks share).
    """
    at = replace(at, values=at.values.detach().requires_grad_())
    with torchs_layers():
        logits = network(*at.inputs)[:, 0]
    (gradient,) = torch.autograd.grad(logits.sum(), at.values, create_graph=True)
    return gradient.flatten(1).square().sum(1)


@dataclass(frozen=True)
class GradientPenalty:
    """weight * (|gradient| - 1)^2 on the way from a real to a fake.  arXiv 1704.00028."""

    weight: float
    seed: int
    name = "gradient"

    def draw(self, kind: str, first: int, last: int) -> dict[str, Array]:
        """Return how much of a mixture each real is."""
        if kind == "fake":
            return {}
        return {"mixing": uniforms(self.seed, Purpose.MIXING, first, last, 1)[:, 0]}

    def __call__(self, network: Applied, real: Batch | None, fake: Batch | None) -> Tensor | None:
        """Return the penalty, summed over this rank's pairs.  Collective (batch norm)."""
        assert real is not None and fake is not None, "--d-update separate is refused"
        share = real.drawn["mixing"].view(-1, *[1] * (real.values.dim() - 1))
        mixed = replace(real, values=share * real.values + (1 - share) * fake.values)
        lengths = (slopes(network, mixed) + TINY).sqrt()
        return self.weight * (lengths - 1).square().sum()


@dataclass(frozen=True)
class R1:
    """weight / 2 * |gradient|^2 at reals.  Mescheder et al., arXiv 1801.04406, 9."""

    weight: float
    name = "r1"

    def __call__(self, network: Applied, real: Batch | None, fake: Batch | None) -> Tensor | None:
        """Return the penalty, summed over this rank's reals.  Collective (batch norm)."""
        if real is None:
            return None
        return 0.5 * self.weight * slopes(network, real).sum()
