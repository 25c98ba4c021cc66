"""Losses of the two players, per sample, from the discriminator's logits."""

from dataclasses import dataclass

import torch
from torch.nn.functional import softplus

Tensor = torch.Tensor


@dataclass(frozen=True)
class CntkLoss:
    """The losses of CNTK's Basic_GAN_Distributed.py, with D(x) = sigmoid(logit).

    softplus(-s) is -log D and softplus(s) is -log(1 - D), exact where D rounds to 0 or 1.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return -(log D(x) + log(1 - D(G(z)))) of each pair; 1.386 where D is 1/2."""
        return softplus(-real_logits) + softplus(fake_logits)

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return 1 - log D(G(z)) of each sample; 1.693 where D is 1/2, never under 1."""
        return 1.0 + softplus(-fake_logits)
