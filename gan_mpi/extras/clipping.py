"""Weight clipping, which bounds the slope of a Wasserstein critic."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Clipping:
    """Keeps every parameter of a network within -size..size.  arXiv 1701.07875, algorithm 1."""

    network: nn.Module
    size: float

    @torch.no_grad()
    def __call__(self, are_finite: Tensor | None = None) -> None:
        for parameter in self.network.parameters():
            if are_finite is None:
                parameter.clamp_(-self.size, self.size)
            else:
                clipped = parameter.clamp(-self.size, self.size)
                parameter.copy_(torch.where(are_finite, clipped, parameter))
