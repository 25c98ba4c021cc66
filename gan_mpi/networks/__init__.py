"""Generators and discriminators, by name, with their initial weights."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from gan_mpi.config import TrainConfig
from gan_mpi.errors import UserError
from gan_mpi.images import RANGES
from gan_mpi.networks import dcgan, dense, lightning, paddle
from gan_mpi.networks.layers import (
    Rule,
    dcgan_normal,
    draw_weights,
    paddle_normal,
    paddle_smart,
    torch_default,
    xavier_as_cntk,
)
from gan_mpi.streams import Purpose


@dataclass(frozen=True)
class Architecture:
    """How the two networks of a name are made, for samples of so many dimensions."""

    generator: Callable[[int, tuple[int, ...], bool], nn.Module]
    discriminator: Callable[[tuple[int, ...]], nn.Module]
    initial: Rule
    dimensions: int = 3  # of a sample: (C, H, W), or (d,) for points


ARCHITECTURES = {
    "dense": Architecture(
        dense.dense_generator, dense.dense_discriminator, xavier_as_cntk
    ),
    "dcgan": Architecture(
        dcgan.dcgan_generator, dcgan.dcgan_discriminator, dcgan_normal
    ),
    "dcgan-206b": Architecture(
        dcgan.dcgan_generator, dcgan.dcgan_206b_discriminator, dcgan_normal
    ),
    "paddle": Architecture(
        paddle.paddle_generator, paddle.paddle_discriminator, paddle_normal
    ),
    "paddle-points": Architecture(
        paddle.points_generator, paddle.points_discriminator, paddle_smart, dimensions=1
    ),
    "lightning": Architecture(
        lightning.lightning_generator, lightning.lightning_discriminator, torch_default
    ),
}


def build_generator(config: TrainConfig, shape: tuple[int, ...]) -> nn.Module:
    """Return a generator in float64: latents (N, latent_dim) to samples (N, *shape).

    Raises UserError if the network makes no such samples.
    """
    architecture = _architecture(config, shape)
    tanh = RANGES[config.range].tanh
    network = architecture.generator(config.latent_dim, shape, tanh).double()
    draw_weights(network, config.seed, Purpose.WEIGHTS_G, architecture.initial)
    return network


def build_discriminator(config: TrainConfig, shape: tuple[int, ...]) -> nn.Module:
    """Return a discriminator in float64: samples (N, *shape) to logits (N, 1).

    Raises UserError if the network takes no such samples.
    """
    architecture = _architecture(config, shape)
    network = architecture.discriminator(shape).double()
    draw_weights(network, config.seed, Purpose.WEIGHTS_D, architecture.initial)
    return network


def _architecture(config: TrainConfig, shape: tuple[int, ...]) -> Architecture:
    architecture = ARCHITECTURES[config.network]
    if len(shape) != architecture.dimensions:
        made = "images" if architecture.dimensions == 3 else "points"
        raise UserError(
            f"--network {config.network} is for {made}, but the data are "
            f"{'x'.join(map(str, shape))} numbers each.",
            exit_code=2,
            on_all_ranks=True,
        )
    return architecture
