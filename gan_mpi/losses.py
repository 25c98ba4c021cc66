"""Losses of the two players, per sample, from the discriminator's logits."""

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor
from torch.nn.functional import softplus

T = TypeVar("T", float, Tensor)


@dataclass(frozen=True)
class Loss:
    """Cross-entropy with D(x) = sigmoid(logit).

    softplus(-s) is -log D and softplus(s) is -log(1 - D), exact where D rounds to 0 or 1.
    `weight` multiplies the sum of D's two terms; `constant` is added to G's loss.
    """

    weight: float
    constant: float

    def real(self, real_logits: Tensor) -> Tensor:
        """Return -log D(x) of each real image; 0.693 where D is 1/2."""
        return softplus(-real_logits)

    def fake(self, fake_logits: Tensor) -> Tensor:
        """Return -log(1 - D(G(z))) of each fake; 0.693 where D is 1/2."""
        return softplus(fake_logits)

    def discriminator(self, real: T, fake: T) -> T:
        """Return D's loss from its two terms: their sum or their mean."""
        return self.weight * (real + fake)

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return `constant` - log D(G(z)) of each fake, the non-saturating loss."""
        return self.constant + softplus(-fake_logits)


LOSSES = {
    "sum": Loss(weight=1.0, constant=1.0),  # CNTK's GAN programs
    "mean": Loss(
        weight=0.5, constant=0.0
    ),  # Lightning's basic GAN; PaddlePaddle's demo
}
