"""The dense networks of Lightning's basic GAN example, which OpenFL's tutorial took over."""

import math

from torch import nn

from gan_mpi.networks.layers import View, last_layer
from gan_mpi.parallel.batch_norm import BatchNorm
from gan_mpi.parallel.linear import Linear

EPSILON = 0.8  # BatchNorm1d(n, 0.8): the original meant a momentum
SLOPE = 0.2


def lightning_generator(latent_dim: int, shape: tuple[int, ...], tanh: bool) -> nn.Sequential:
    """Latents (N, latent_dim) to images (N, *shape)."""
    layers: list[nn.Module] = [Linear(latent_dim, 128), nn.LeakyReLU(SLOPE)]
    for inputs, outputs in ((128, 256), (256, 512), (512, 1024)):
        layers += [
            Linear(inputs, outputs),
            BatchNorm(outputs, eps=EPSILON),
            nn.LeakyReLU(SLOPE),
        ]
    last = Linear(1024, math.prod(shape))
    return nn.Sequential(*layers, last, last_layer(tanh), View(*shape))


def lightning_discriminator(shape: tuple[int, ...]) -> nn.Sequential:
    """Images (N, *shape) to logits (N, 1); D(x) is their sigmoid."""
    return nn.Sequential(
        nn.Flatten(),
        Linear(math.prod(shape), 512),
        nn.LeakyReLU(SLOPE),
        Linear(512, 256),
        nn.LeakyReLU(SLOPE),
        Linear(256, 1),
    )
