"""Initial weights, drawn from one stream a network so that they depend on the seed alone."""

from torch import Tensor, nn

from gan_mpi.errors import UserError


class View(nn.Module):
    """Features (N, C*H*W) as (N, C, H, W)."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, features: Tensor) -> Tensor:
        return features.view(-1, *self.shape)


def quarter_sides(who_makes: str, height: int, width: int) -> tuple[int, int]:
    """Return a quarter of both sides of an image.  Raises UserError if there is none."""
    if height % 4 or width % 4:
        raise UserError(
            f"{who_makes} images with sides that are multiples of 4, not of {height}x{width}."
        )
    return height // 4, width // 4


def last_layer(tanh: bool) -> nn.Module:
    """Return the generator's last layer: tanh for -1..1, else a sigmoid for 0..1."""
    return nn.Tanh() if tanh else nn.Sigmoid()
