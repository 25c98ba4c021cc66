"""Generators and discriminators, by name, with their initial weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from gan_mpi.config.training import TrainConfig
from gan_mpi.errors import UserError, invalid_value
from gan_mpi.networks import dcgan, dense, lightning, modern, paddle, small
from gan_mpi.networks.generator import Generator, PlainGenerator
from gan_mpi.networks.pixels import RANGES
from gan_mpi.networks.variations import (
    HIDDEN,
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
    normal_by_gain,
    paddle_normal,
    paddle_smart,
    torch_default,
    xavier_as_cntk,
)
from gan_mpi.parallel.batch_norm import batch_norms
from gan_mpi.streams import Purpose


@dataclass(frozen=True)
class Architecture:
    """How the two networks of a name are made, for samples of so many dimensions.

    Those of `sizes` are given --width and --blocks too.
    """

    generator: Callable[..., nn.Sequential]  # of latent_dim, shape, tanh
    discriminator: Callable[..., nn.Sequential]  # of shape
    initial: Rule
    dimensions: int = 3  # of a sample: (C, H, W), or (d,) for points
    has_sizes: bool = False


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
    "modern": Architecture(
        modern.modern_generator, modern.modern_discriminator, normal_by_gain, has_sizes=True
    ),
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
    network = architecture.generator(width, shape, tanh, **_sizes(config, architecture))
    network = _vary(config, network, "g")
    if config.g_dropout:
        _require_hidden(config, network, "g_dropout", config.g_dropout)
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
    plain = architecture.discriminator(shape, **_sizes(config, architecture))
    layers = _vary(config, plain, "d")
    network: nn.Module = layers
    if classes:
        auxiliary = config.conditional == "auxiliary"
        network = LabelledDiscriminator(layers, classes, auxiliary)
    draw_weights(network.double(), config.seed, Purpose.WEIGHTS_D, architecture.initial)
    if config.d_norm == "spectral":
        if any(getattr(layer, "gain", 1.0) == 0.0 for layer in network.modules()):
            raise invalid_value(
                "d_norm",
                f"spectral, but blocks of --network {config.network} begin with weights of 0, "
                "which have no norm to divide by; leave it out, or give --r1",
            )
        normalise_spectrum(network, config.seed)
    return network


def _require_hidden(config: TrainConfig, network: nn.Sequential, name: str, value: object) -> None:
    """Raise UserError if a network has no hidden layers of its own for a setting."""
    if not any(isinstance(layer, HIDDEN) for layer in network):
        raise invalid_value(
            name,
            f"{value}, but the hidden layers of --network {config.network} are within blocks that "
            "stay as they are; leave it out",
        )


def _vary(config: TrainConfig, network: nn.Sequential, player: str) -> nn.Sequential:
    """Return a network with the activation and normalisation asked for.  Raises UserError."""
    activation = getattr(config, f"{player}_activation")
    norm = getattr(config, f"{player}_norm")
    if activation != "own":
        _require_hidden(config, network, f"{player}_activation", activation)
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


def _sizes(config: TrainConfig, architecture: Architecture) -> dict[str, int]:
    return {"width": config.width, "blocks": config.blocks} if architecture.has_sizes else {}


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
