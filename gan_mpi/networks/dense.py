"""The dense networks of CNTK's Basic_GAN_Distributed.py: one hidden layer of 128 each."""

import math

from torch import nn

from gan_mpi.networks.layers import View, last_layer
from gan_mpi.parallel.linear import Linear

HIDDEN = 128


def dense_generator(latent_dim: int, shape: tuple[int, ...], tanh: bool) -> nn.Sequential:
    """Latents (N, latent_dim) to images (N, *shape)."""
    return nn.Sequential(
        Linear(latent_dim, HIDDEN),
        nn.ReLU(),
        Linear(HIDDEN, math.prod(shape)),
        last_layer(tanh),
        View(*shape),
    )


def dense_discriminator(shape: tuple[int, ...]) -> nn.Sequential:
    """Images (N, *shape) to logits (N, 1); D(x) is their sigmoid."""
    return nn.Sequential(
        nn.Flatten(),
        Linear(math.prod(shape), HIDDEN),
        nn.ReLU(),
        Linear(HIDDEN, 1),
    )
