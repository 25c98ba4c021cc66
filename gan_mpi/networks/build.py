"""Generators and discriminators, by name, with their initial weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from gan_mpi.config.training import TrainConfig
from gan_mpi.errors import UserError, invalid_value
from gan_mpi.networks import dcgan, dense, lightning, paddle, small
from gan_mpi.networks.generator import Generator, PlainGenerator
from gan_mpi.networks.pixels import RANGES
from gan_mpi.networks.variations import (
    LabelledDiscriminator,
    WideGenerator,
    activated_in_place,
    normalise_spectrum,
    with_activation,
    with_dropout,
    with_instance_norm,
    without_norm,
)
from gan_mpi.networks.weights import (
    Rule,
    dcgan_normal,
    draw_weights,
    paddle_normal,
    paddle_smart,
    torch_default,
    xavier_as_cntk,
)
from gan_mpi.parallel.batch_norm import batch_norms
from gan_mpi.streams import Purpose


@dataclass(frozen=True)
class Architecture:
    """How the two networks of a name are made, for samples of so many dimensions."""

    generator: Callable[[int, tuple[int, ...], bool], nn.Sequential]
    discriminator: Callable[[tuple[int, ...]], nn.Sequential]
    initial: Rule
    dimensions: int = 3  # of a sample: (C, H, W), or (d,) for points


ARCHITECTURES = {
    "dense": Architecture(dense.dense_generator, dense.dense_discriminator, xavier_as_cntk),
    "dcgan": Architecture(dcgan.dcgan_generator, dcgan.dcgan_discriminator, dcgan_normal),
    "dcgan-206b": Architecture(dcgan.dcgan_generator, dcgan.dcgan_206b_discriminator, dcgan_normal),
    "paddle": Architecture(paddle.paddle_generator, paddle.paddle_discriminator, paddle_normal),
    "paddle-points": Architecture(
        paddle.points_generator, paddle.points_discriminator, paddle_smart, dimensions=1
    ),
    "lightning": Architecture(
        lightning.lightning_generator, lightning.lightning_discriminator, torch_default
    ),
    "small": Architecture(small.small_generator, small.small_discriminator, dcgan_normal),
}


def build_generator(
    config: TrainConfig, shape: tuple[int, ...], label_counts: Sequence[int] = ()
) -> Generator:
    """Return a generator in float64, as make_generator does, with its initial weights."""
    network = make_generator(config, shape, label_counts).double()
    draw_weights(network, config.seed, Purpose.WEIGHTS_G, ARCHITECTURES[config.network].initial)
    return network


def make_generator(
    config: TrainConfig, shape: tuple[int, ...], label_counts: Sequence[int] = ()
) -> Generator:
    """Return a generator without its weights: latents (N, latent_dim) to samples (N, *shape).

    It also takes labels if the data's counts are given, and numbers for dropout, as WideGenerator
    says.  Raises UserError if the network makes no such samples.
    """
    architecture = _architecture(config, shape)
    tanh = RANGES[config.range].tanh
    width = config.latent_dim + len(label_counts)
    network = architecture.generator(width, shape, tanh)
    network = _vary(config, network, "g")
    if config.g_dropout:
        network = with_dropout(network, config.g_dropout)
    if label_counts or config.g_dropout:
        return WideGenerator(network, config.latent_dim, label_counts)
    return PlainGenerator(*network)


def build_discriminator(config: TrainConfig, shape: tuple[int, ...], classes: int = 0) -> nn.Module:
    """Return a discriminator in float64: samples (N, *shape), and labels if there are classes, to
    logits (N, 1); with an auxiliary classifier to (N, 1 + classes).

    Raises UserError if the network takes no such samples.
    """
    architecture = _architecture(config, shape)
    layers = _vary(config, architecture.discriminator(shape), "d")
    network: nn.Module = layers
    if classes:
        auxiliary = config.conditional == "auxiliary"
        network = LabelledDiscriminator(layers, classes, auxiliary)
    draw_weights(network.double(), config.seed, Purpose.WEIGHTS_D, architecture.initial)
    if config.d_norm == "spectral":
        normalise_spectrum(network, config.seed)
    return network


def _vary(config: TrainConfig, network: nn.Sequential, player: str) -> nn.Sequential:
    """Return a network with the activation and normalisation asked for.  Raises UserError."""
    activation = getattr(config, f"{player}_activation")
    norm = getattr(config, f"{player}_norm")
    if activation != "own":
        network = with_activation(network, activation)
    if norm in ("instance", "none") and not any(batch_norms(network)):
        raise invalid_value(
            f"{player}_norm",
            f"{norm}, but that network of --network {config.network} has no batch norm to "
            "replace; leave it out",
        )
    if norm == "instance":
        network = with_instance_norm(network)
    elif norm != "own":
        network = without_norm(network)
    return activated_in_place(network)


def _architecture(config: TrainConfig, shape: tuple[int, ...]) -> Architecture:
    architecture = ARCHITECTURES[config.network]
    if len(shape) != architecture.dimensions:
        kind = "images" if architecture.dimensions == 3 else "points"
        raise UserError(
            f"--network {config.network} is for {kind}, but the data are "
            f"{'x'.join(map(str, shape))} numbers each.",
            exit_code=2,
        )
    return architecture
