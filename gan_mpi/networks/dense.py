"""The dense networks of CNTK's Basic_GAN_Distributed.py: one hidden layer of 128 each."""

import math

from torch import nn

from gan_mpi.networks.layers import View, last_layer

HIDDEN = 128


def dense_generator(latent_dim: int, shape: tuple[int, ...], tanh: bool) -> nn.Sequential:
    """Latents (N, latent_dim) to images (N, *shape)."""
    return nn.Sequential(
        nn.Linear(latent_dim, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, math.prod(shape)),
        last_layer(tanh),
        View(*shape),
    )


def dense_discriminator(shape: tuple[int, ...]) -> nn.Sequential:
    """Images (N, *shape) to logits (N, 1); D(x) is their sigmoid."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, 1),
    )
