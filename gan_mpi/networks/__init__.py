"""Generators and discriminators, by architecture, with their initial weights."""

from torch import nn

from gan_mpi.networks.dense import DenseDiscriminator, DenseGenerator
from gan_mpi.networks.layers import xavier_as_cntk
from gan_mpi.streams import Purpose


def build_generator(
    latent_dim: int, image_shape: tuple[int, int, int], seed: int
) -> nn.Module:
    """Return a generator in float64 for images of `image_shape` (C, H, W)."""
    generator = DenseGenerator(latent_dim, image_shape).double()
    xavier_as_cntk(generator, seed, Purpose.WEIGHTS_G)
    return generator


def build_discriminator(image_shape: tuple[int, int, int], seed: int) -> nn.Module:
    """Return a discriminator in float64 for images of `image_shape` (C, H, W)."""
    discriminator = DenseDiscriminator(image_shape).double()
    xavier_as_cntk(discriminator, seed, Purpose.WEIGHTS_D)
    return discriminator
