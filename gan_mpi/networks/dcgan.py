"""The convolutional networks of CNTK's tutorial 206B, and the same with every pixel seen by D."""

import math

from torch import nn

from gan_mpi.networks.layers import ConvTranspose2d, View, last_layer, quarter_sides
from gan_mpi.parallel.batch_norm import BatchNorm
from gan_mpi.parallel.linear import Linear

# BatchNormalization(normalization_time_constant=5000) at the tutorial's batch of 128.
MOMENTUM = 1.0 - math.exp(-128 / 5000)
KERNEL = 5
FILTERS = 128  # of the generator
DENSE = 1024


def _batch_norm(features: int) -> BatchNorm:
    return BatchNorm(features, eps=1e-5, momentum=MOMENTUM)


def _up(inputs: int, outputs: int) -> nn.Module:
    return ConvTranspose2d(inputs, outputs, KERNEL, stride=2, padding=2, output_padding=1)


def dcgan_generator(latent_dim: int, shape: tuple[int, ...], tanh: bool) -> nn.Sequential:
    """Latents (N, latent_dim) to images (N, C, H, W); H and W must be multiples of 4."""
    channels, height, width = shape
    small = FILTERS, *quarter_sides("the networks dcgan and dcgan-206b make", height, width)
    return nn.Sequential(
        Linear(latent_dim, DENSE),
        _batch_norm(DENSE),
        nn.ReLU(),
        Linear(DENSE, math.prod(small)),
        View(*small),
        _batch_norm(FILTERS),
        nn.ReLU(),
        _up(FILTERS, FILTERS),
        _batch_norm(FILTERS),
        nn.ReLU(),
        _up(FILTERS, channels),
        last_layer(tanh),
    )


def dcgan_206b_discriminator(shape: tuple[int, ...]) -> nn.Sequential:
    """Images (N, C, H, W) to logits (N, 1), without padding: 28 to 12 to 4.

    Rows and columns 25 to 27 of a 28x28 image do not reach it, as in the original.
    """
    return _discriminator(shape, before=0, after=0)


def dcgan_discriminator(shape: tuple[int, ...]) -> nn.Sequential:
    """Images (N, C, H, W) to logits (N, 1), padded so that every pixel counts: 28 to 15 to 8.

    2 before and 3 after the image let its last row and column pass through as many rows of the
    kernel as those before them.  With 2 after it, 28 to 14 to 7, it is one row of one filter, and
    what is drawn there depends on the luck of the seed.
    """
    return _discriminator(shape, before=2, after=3)


def _discriminator(shape: tuple[int, ...], before: int, after: int) -> nn.Sequential:
    channels, *sides = shape
    sides = [(side + before + after - KERNEL) // 2 + 1 for side in sides]
    sides = [(side + 2 * before - KERNEL) // 2 + 1 for side in sides]
    edge = [nn.ZeroPad2d((before, after, before, after))] if after else []
    return nn.Sequential(
        *edge,
        nn.Conv2d(channels, 1, KERNEL, stride=2),
        _batch_norm(1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(1, 64, KERNEL, stride=2, padding=before),
        _batch_norm(64),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        Linear(64 * math.prod(sides), DENSE),
        _batch_norm(DENSE),
        nn.LeakyReLU(0.2),
        Linear(DENSE, 1),
    )
