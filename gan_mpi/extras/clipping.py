"""Weight clipping, which bounds the slope of a Wasserstein critic."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Clipping:
    """Keeps every parameter of a network within -size..size.  arXiv 1701.07875, algorithm 1."""

    network: nn.Module
    size: float

    @torch.no_grad()
    def __call__(self) -> None:
        for parameter in self.network.parameters():
            parameter.clamp_(-self.size, self.size)
