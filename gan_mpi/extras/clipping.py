"""Weight clipping, which bounds the slope of a Wasserstein critic."""

from dataclasses import dataclass

import torch
from torch import nn

from gan_mpi.game.host import DeviceUpdate


@dataclass(frozen=True)
class Clipping:
    """Keeps every parameter of a network within -size..size.  arXiv 1701.07875, algorithm 1."""

    network: nn.Module
    size: float

    @torch.no_grad()
    def __call__(self, update: DeviceUpdate | None = None) -> None:
        for parameter in self.network.parameters():
            if update is None:
                parameter.clamp_(-self.size, self.size)
            else:
                clipped = parameter.clamp(-self.size, self.size)
                parameter.copy_(update.choose(clipped, parameter))
