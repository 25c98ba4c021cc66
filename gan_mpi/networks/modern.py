"""Residual networks without normalisation, mirror images of each other, for pictures of any kind.

Those of R3GAN, Huang et al., arXiv 2501.05441, section 3, but for fewer channels where maps are
large, and a last layer of G that keeps its range.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from gan_mpi.errors import UserError, invalid_value
from gan_mpi.networks.layers import View, last_layer
from gan_mpi.parallel.linear import Linear

SIDES = (16, 32, 64, 128, 256)
CUT = {28: 32}  # sides of pictures that are drawn larger, and cut
FIRST = 4  # pixels, the side of the smallest maps
FULL = 16  # pixels: maps of larger sides have fewer channels, in proportion
EXPANSION = 2  # of channels within a block
GROUP = 16  # channels that one of its 3x3 convolutions sees
EVEN = GROUP // EXPANSION  # channels come in so many at once
LEAST = 16  # channels
SLOPE = 0.2
GAIN = math.sqrt(2.0 / (1.0 + SLOPE**2))  # of leaky ReLU, He et al., arXiv 1502.01852


class Conv(nn.Conv2d):
    """A convolution that keeps the sides of maps.

    `gain` is the deviation of its outputs at first, of inputs whose deviation is 1.
    """

    def __init__(
        self, inputs: int, outputs: int, side: int = 1, gain: float = 1.0, bias: bool = False
    ) -> None:
        """With `side` 3 it is a grouped one; it has a bias if an activation follows."""
        groups = max(1, inputs // GROUP) if side > 1 else 1
        super().__init__(inputs, outputs, side, padding=side // 2, groups=groups, bias=bias)
        self.gain = gain


class Block(nn.Module):
    """x + f(x), of which f is 1x1, grouped 3x3 and 1x1 convolutions; at first it is x alone.

    How large its first weights are beside those of so many other blocks is Fixup's, Zhang et al.,
    arXiv 1901.09321.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        wide, gain = EXPANSION * channels, GAIN * blocks**-0.25
        self.f = nn.Sequential(
            Conv(channels, wide, gain=gain, bias=True),
            nn.LeakyReLU(SLOPE, inplace=True),
            Conv(wide, wide, 3, gain=gain, bias=True),
            nn.LeakyReLU(SLOPE, inplace=True),
            Conv(wide, channels, gain=0.0),
        )

    def forward(self, maps: Tensor) -> Tensor:
        maps = maps.contiguous(memory_format=torch.channels_last)  # the quicker one on a CPU
        return maps + self.f(maps)


def _smoothing(maps: Tensor) -> Tensor:
    """Return the filter [1, 2, 1] of rows and columns, (C, 1, 3, 3), whose sum is 4."""
    row = maps.new_ones(3)
    row[1] = 2.0
    return (row[:, None] * row / 4.0).expand(maps.shape[1], 1, 3, 3)


class Twice(nn.Module):
    """Maps of twice the sides: between two pixels is their mean, beyond the last ones is zero."""

    def forward(self, maps: Tensor) -> Tensor:
        groups = maps.shape[1]
        return conv_transpose2d(maps, _smoothing(maps), None, 2, 1, 1, groups)


class Half(nn.Module):
    """Maps of half the sides, each pixel the mean of those around it, beyond which is zero."""

    def forward(self, maps: Tensor) -> Tensor:
        return conv2d(maps, _smoothing(maps) / 4.0, stride=2, padding=1, groups=maps.shape[1])


class Basis(nn.Module):
    """Maps (N, C, 4, 4), which are C learned ones, each as strong as a feature (N, C) says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, FIRST, FIRST))

    def forward(self, features: Tensor) -> Tensor:
        return features[:, :, None, None] * self.weight


class Cut(nn.Module):
    """Pictures without their border of so many pixels."""

    def __init__(self, border: int) -> None:
        super().__init__()
        self.border = border

    def forward(self, pictures: Tensor) -> Tensor:
        inner = slice(self.border, -self.border)
        return pictures[:, :, inner, inner]


def stages(shape: tuple[int, ...], width: int) -> list[tuple[int, int]]:
    """Return side and channels of the maps of each stage, from the smallest to the picture's.

    Raises UserError if pictures of this shape are not drawn.
    """
    _, height, side = shape
    side = CUT.get(side, side)
    if height != shape[2] or side not in SIDES:
        raise UserError(
            "the network modern makes square images with sides of "
            f"{', '.join(map(str, [*CUT, *SIDES]))}, not of {height}x{shape[2]}."
        )
    if width % EVEN:
        raise invalid_value("width", f"{width} is not a multiple of {EVEN}")
    sides = [FIRST << n for n in range((side // FIRST).bit_length())]
    return [
        (each, max(LEAST, -(-width * FULL // max(FULL, each) // EVEN) * EVEN)) for each in sides
    ]


def modern_generator(
    latent_dim: int, shape: tuple[int, ...], tanh: bool, width: int, blocks: int
) -> nn.Sequential:
    """Latents (N, latent_dim) to images (N, C, H, W) of equal sides, by so many blocks a stage."""
    maps = stages(shape, width)
    channels = maps[0][1]
    layers: list[nn.Module] = [Linear(latent_dim, channels), Basis(channels)]
    for side, wide in maps:
        if side > FIRST:
            layers += [Conv(channels, wide)] * (wide != channels) + [Twice()]
        channels = wide
        layers += [Block(channels, blocks * len(maps)) for _ in range(blocks)]
    layers.append(Conv(channels, shape[0]))
    if border := (maps[-1][0] - shape[1]) // 2:
        layers.append(Cut(border))
    return nn.Sequential(*layers, last_layer(tanh))


def modern_discriminator(shape: tuple[int, ...], width: int, blocks: int) -> nn.Sequential:
    """Images (N, C, H, W) of equal sides to logits (N, 1), each by itself."""
    maps = stages(shape, width)[::-1]
    channels = maps[0][1]
    border = (maps[0][0] - shape[1]) // 2
    layers: list[nn.Module] = [nn.ZeroPad2d(border)] if border else []
    layers.append(Conv(shape[0], channels))
    for side, wide in maps:
        if side < maps[0][0]:
            layers += [Half(), *[Conv(channels, wide)] * (wide != channels)]
        channels = wide
        layers += [Block(channels, blocks * len(maps)) for _ in range(blocks)]
    last = nn.Conv2d(channels, channels, FIRST, groups=channels, bias=False)
    return nn.Sequential(*layers, last, View(channels), Linear(channels, 1))
