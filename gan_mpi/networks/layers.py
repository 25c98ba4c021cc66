"""Initial weights, drawn from one stream a network so that they depend on the seed alone."""

from torch import Tensor, nn


class View(nn.Module):
    """Features (N, C*H*W) as (N, C, H, W)."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, features: Tensor) -> Tensor:
        return features.view(-1, *self.shape)


def last_layer(tanh: bool) -> nn.Module:
    """Return the generator's last layer: tanh for -1..1, else a sigmoid for 0..1."""
    return nn.Tanh() if tanh else nn.Sigmoid()
