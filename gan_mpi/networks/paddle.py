"""The networks of PaddlePaddle v1's demo/gan: convolutional for images, dense for points."""

import math

from torch import Tensor, nn

from gan_mpi.networks.layers import ConvTranspose2d, View, last_layer
from gan_mpi.parallel.batch_norm import BatchNorm
from gan_mpi.parallel.linear import Linear

FILTERS = 64
HIDDEN = 10  # of the networks for points


class TwoWaySoftmax(nn.Module):
    """Two outputs (N, 2), fake and real, as the logit (N, 1) of the softmax's share of real."""

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs[:, 1:] - outputs[:, :1]


def kernel_and_padding(large: int, small: int) -> tuple[int, int]:
    """Return the kernel and padding of a convolution of stride 2 between two sides.

    Source: conv_bn of Paddle's gan_conf_image.py.
    """
    span = large - (small - 1) * 2
    if span in (2, 3):
        return span + 2, 1
    if span in (4, 5):
        return span, 0
    raise ValueError(f"no convolution of stride 2 leads from {large} to {small}")


def _sides(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return (H, W) of an image and of its halves: 28, 14, 7, 3 or 32, 16, 8, 4."""
    _, height, width = shape
    return [(height >> n, width >> n) for n in range(4)]


def _square(large: tuple[int, int], small: tuple[int, int]) -> tuple[int, int]:
    return kernel_and_padding(large[0], small[0])


def paddle_generator(latent_dim: int, shape: tuple[int, ...], tanh: bool) -> nn.Sequential:
    """Latents (N, latent_dim) to images (N, C, H, W) of a square side."""
    s1, s2, s4, s8 = _sides(shape)
    filters = [4 * FILTERS, 2 * FILTERS, FILTERS, shape[0]]
    dense = filters[0] * math.prod(s8)
    layers: list[nn.Module] = [
        Linear(latent_dim, dense),
        BatchNorm(dense),  # over each of the features: no num_channels is given there
        nn.ReLU(),
        View(filters[0], *s8),
    ]
    for number, (small, large) in enumerate(((s8, s4), (s4, s2), (s2, s1))):
        kernel, padding = _square(large, small)
        layers.append(ConvTranspose2d(filters[number], filters[number + 1], kernel, 2, padding))
        if large != s1:
            layers += [BatchNorm(filters[number + 1]), nn.ReLU()]
    return nn.Sequential(*layers, last_layer(tanh))


def paddle_discriminator(shape: tuple[int, ...]) -> nn.Sequential:
    """Images (N, C, H, W) of a square side to logits (N, 1)."""
    s1, s2, s4, s8 = _sides(shape)
    filters = [shape[0], FILTERS, 2 * FILTERS, 4 * FILTERS]
    layers: list[nn.Module] = []
    for number, (large, small) in enumerate(((s1, s2), (s2, s4), (s4, s8))):
        kernel, padding = _square(large, small)
        layers.append(nn.Conv2d(filters[number], filters[number + 1], kernel, 2, padding))
        if large != s1:
            layers.append(BatchNorm(filters[number + 1]))
        layers.append(nn.ReLU())
    dense = Linear(filters[-1] * math.prod(s8), 2)
    return nn.Sequential(*layers, nn.Flatten(), dense, TwoWaySoftmax())


def points_generator(latent_dim: int, shape: tuple[int, ...], tanh: bool) -> nn.Sequential:
    """Latents (N, latent_dim) to points (N, d); the last layer is linear."""
    return nn.Sequential(
        Linear(latent_dim, HIDDEN),
        nn.ReLU(),
        Linear(HIDDEN, HIDDEN),
        BatchNorm(HIDDEN),
        nn.ReLU(),
        Linear(HIDDEN, shape[0]),
    )


def points_discriminator(shape: tuple[int, ...]) -> nn.Sequential:
    """Points (N, d) to logits (N, 1)."""
    return nn.Sequential(
        Linear(shape[0], HIDDEN),
        nn.ReLU(),
        Linear(HIDDEN, HIDDEN),
        BatchNorm(HIDDEN),
        nn.ReLU(),
        Linear(HIDDEN, 2),
        TwoWaySoftmax(),
    )
