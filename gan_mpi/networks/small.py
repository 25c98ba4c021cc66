"""Convolutional networks that two cores train in minutes: a fraction of DCGAN's work."""

import math

from torch import nn

from gan_mpi.networks.layers import ConvTranspose2d, View, last_layer, quarter_sides
from gan_mpi.parallel.batch_norm import BatchNorm
from gan_mpi.parallel.linear import Linear

KERNEL = 4  # a multiple of the stride, so that every pixel is drawn by as many weights
FILTERS = 64
DENSE = 256
SLOPE = 0.2


def _up(inputs: int, outputs: int) -> nn.Module:
    return ConvTranspose2d(inputs, outputs, KERNEL, stride=2, padding=1)


def _down(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, KERNEL, stride=2, padding=1)


def small_generator(latent_dim: int, shape: tuple[int, ...], tanh: bool) -> nn.Sequential:
    """Latents (N, latent_dim) to images (N, C, H, W); H and W must be multiples of 4."""
    channels, height, width = shape
    first = FILTERS, *quarter_sides("the network small makes", height, width)
    return nn.Sequential(
        Linear(latent_dim, DENSE),  # where class and latents meet
        BatchNorm(DENSE),
        nn.ReLU(),
        Linear(DENSE, math.prod(first)),
        View(*first),
        BatchNorm(first[0]),
        nn.ReLU(),
        _up(first[0], FILTERS),
        BatchNorm(FILTERS),
        nn.ReLU(),
        _up(FILTERS, channels),
        last_layer(tanh),
    )


def small_discriminator(shape: tuple[int, ...]) -> nn.Sequential:
    """Images (N, C, H, W) to logits (N, 1), each by itself: there is no batch norm."""
    channels, height, width = shape
    return nn.Sequential(
        _down(channels, FILTERS // 2),
        nn.LeakyReLU(SLOPE),
        _down(FILTERS // 2, FILTERS),
        nn.LeakyReLU(SLOPE),
        nn.Flatten(),
        Linear(FILTERS * (height // 4) * (width // 4), 1),
    )
