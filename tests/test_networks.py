"""The networks of every preset, held against figures taken from their originals' texts."""

import copy
import functools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from gan_mpi.config.presets import PRESETS
from gan_mpi.config.resolve import new_config
from gan_mpi.config.training import NETWORKS
from gan_mpi.datasets.find import SHAPES
from gan_mpi.errors import UserError
from gan_mpi.networks.build import ARCHITECTURES, build_discriminator, build_generator
from gan_mpi.networks.layers import ConvTranspose2d, View
from gan_mpi.networks.paddle import kernel_and_padding
from gan_mpi.networks.variations import InstanceNorm
from gan_mpi.parallel.batch_norm import BatchNorm

# Weights and biases of each layer, as the originals' texts give the sizes.
G_206B = [
    100 * 1024 + 1024,
    2 * 1024,
    1024 * 6272 + 6272,
    2 * 128,
    128 * 128 * 25 + 128,
    2 * 128,
    128 * 25 + 1,
]
SIZES = {
    "basic": ([100 * 128 + 128, 128 * 784 + 784], [784 * 128 + 128, 128 + 1]),
    "dcgan-206b": (
        G_206B,
        [25 + 1, 2, 25 * 64 + 64, 2 * 64, 1024 * 1024 + 1024, 2 * 1024, 1024 + 1],
    ),
    "small": (
        [
            16 * 256 + 256,
            2 * 256,
            256 * 3136 + 3136,
            2 * 64,
            64 * 64 * 16 + 64,
            2 * 64,
            64 * 16 + 1,
        ],
        [32 * 16 + 32, 32 * 64 * 16 + 64, 3136 + 1],
    ),
    "dcgan": (
        G_206B,
        [25 + 1, 2, 25 * 64 + 64, 2 * 64, 4096 * 1024 + 1024, 2 * 1024, 1024 + 1],
    ),
    "paddle-mnist": (
        [
            100 * 2304 + 2304,
            2 * 2304,
            256 * 128 * 25 + 128,
            2 * 128,
            128 * 64 * 16 + 64,
            2 * 64,
            64 * 16 + 1,
        ],
        [
            64 * 16 + 64,
            64 * 128 * 16 + 128,
            2 * 128,
            128 * 256 * 25 + 256,
            2 * 256,
            2304 * 2 + 2,
        ],
    ),
    "paddle-cifar": (
        [
            100 * 4096 + 4096,
            2 * 4096,
            256 * 128 * 16 + 128,
            2 * 128,
            128 * 64 * 16 + 64,
            2 * 64,
            64 * 3 * 16 + 3,
        ],
        [
            3 * 64 * 16 + 64,
            64 * 128 * 16 + 128,
            2 * 128,
            128 * 256 * 16 + 256,
            2 * 256,
            4096 * 2 + 2,
        ],
    ),
    "paddle-uniform": (
        [10 * 10 + 10, 10 * 10 + 10, 2 * 10, 10 * 2 + 2],
        [2 * 10 + 10, 10 * 10 + 10, 2 * 10, 10 * 2 + 2],
    ),
    "lightning": (
        [
            100 * 128 + 128,
            128 * 256 + 256,
            2 * 256,
            256 * 512 + 512,
            2 * 512,
            512 * 1024 + 1024,
            2 * 1024,
            1024 * 784 + 784,
        ],
        [784 * 512 + 512, 512 * 256 + 256, 256 + 1],
    ),
}
SIZES["federated"] = SIZES["lightning"]
# (C, H, W) between the layers that have weights, where the originals' texts give it.
SIDES = {
    "dcgan-206b": (
        [(128, 7, 7), (128, 14, 14), (1, 28, 28)],
        [(1, 12, 12), (64, 4, 4)],
    ),
    "small": ([(64, 7, 7), (64, 14, 14), (1, 28, 28)], [(32, 14, 14), (64, 7, 7)]),
    "dcgan": ([(128, 7, 7), (128, 14, 14), (1, 28, 28)], [(1, 15, 15), (64, 8, 8)]),
    "paddle-mnist": (
        [(256, 3, 3), (128, 7, 7), (64, 14, 14), (1, 28, 28)],
        [(64, 14, 14), (128, 7, 7), (256, 3, 3)],
    ),
    "paddle-cifar": (
        [(256, 4, 4), (128, 8, 8), (64, 16, 16), (3, 32, 32)],
        [(64, 16, 16), (128, 8, 8), (256, 4, 4)],
    ),
}
LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, BatchNorm)


def networks(preset, **given):
    """Return the config, the shape of a sample, and copies of G and D of a preset."""
    return copy.deepcopy(drawn_once(preset, **given))


@functools.cache
def drawn_once(preset, **given):
    config = new_config({"preset": preset, **given})
    shape = SHAPES[config.dataset]
    return config, shape, build_generator(config, shape), build_discriminator(config, shape)


def test_every_name_has_networks_and_every_preset_has_figures():
    assert set(ARCHITECTURES) == set(NETWORKS)
    assert set(SIZES) == set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_sizes_are_the_originals(preset):
    _, _, generator, discriminator = networks(preset)
    for network, sizes in zip((generator, discriminator), SIZES[preset], strict=True):
        layers = [layer for layer in network.modules() if isinstance(layer, LAYERS)]
        assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == sizes


@pytest.mark.parametrize("preset", SIDES)
def test_sides_are_the_originals(preset):
    config, shape, generator, discriminator = networks(preset)
    latents, images = torch.zeros(2, config.latent_dim), torch.zeros(2, *shape)
    for network, inputs, expected in zip(
        (generator, discriminator), (latents, images), SIDES[preset], strict=True
    ):
        seen = []
        for layer in network:
            if isinstance(layer, (View, nn.Conv2d, nn.ConvTranspose2d)):
                layer.register_forward_hook(
                    lambda _layer, _inputs, out, seen=seen: seen.append(out.shape[1:])
                )
        network(inputs.double())
        assert [tuple(sides) for sides in seen] == expected


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("count", [0, 3])
def test_shapes_and_ranges(preset, count):
    config, shape, generator, discriminator = networks(preset)
    samples = generator(torch.randn(count, config.latent_dim).double())
    assert samples.shape == (count, *shape)
    if len(shape) == 3:
        low = 0.0 if config.range == "unit" else -1.0
        assert (samples >= low).all() and (samples <= 1).all()
    assert discriminator(samples).shape == (count, 1)


@pytest.mark.parametrize("preset", PRESETS)
def test_initial_weights_are_the_originals(preset):
    """Mean and standard deviation of every weight and bias, layer by layer."""
    rules = {
        "basic": lambda fan_in: ("weight", 0, math.sqrt(1 / fan_in)),
        "dcgan": lambda fan_in: ("weight", 0, 0.02),
        "dcgan-206b": lambda fan_in: ("weight", 0, 0.02),
        "paddle-mnist": lambda fan_in: ("weight", 0, 0.02),
        "paddle-cifar": lambda fan_in: ("weight", 0, 0.02),
        "paddle-uniform": lambda fan_in: ("weight", 0, math.sqrt(1 / fan_in)),
        "small": lambda fan_in: ("weight", 0, 0.02),
        "lightning": lambda fan_in: ("both", 0, math.sqrt(1 / (3 * fan_in))),
    }
    rules["federated"] = rules["lightning"]
    bias = 1.0 if preset == "paddle-uniform" else 0.0
    for network in networks(preset)[2:]:
        for layer in (m for m in network.modules() if isinstance(m, LAYERS)):
            if isinstance(layer, BatchNorm):
                spread = 0.02 if preset.startswith("paddle") else 0.0
                check(layer.weight, 1.0, spread)
                check(layer.bias, bias, 0.0)
                continue
            which, mean, spread = rules[preset](layer.weight[0].numel())
            check(layer.weight, mean, spread)
            if which == "both":
                check(layer.bias, mean, spread)
            else:
                check(layer.bias, bias, 0.0)


@pytest.mark.parametrize("network", ["dcgan", "dcgan-206b", "paddle", "small", "lightning"])
def test_instance_norm_begins_as_the_batch_norm_in_whose_place_it_is(network):
    """Its scales are no matrices, which are drawn near 0."""
    found = 0
    for player, build in (("g", build_generator), ("d", build_discriminator)):
        config = replace(new_config({"network": network}), **{f"{player}_norm": "instance"})
        try:
            made = build(config, (1, 28, 28))
        except UserError:
            continue  # it has no batch norm
        for layer in made.modules():
            if isinstance(layer, InstanceNorm):
                check(layer.weight, 1.0, 0.02 if network == "paddle" else 0.0)
                check(layer.bias, 0.0, 0.0)
                found += 1
    assert found


def check(tensor, mean, spread):
    """Mean within 5 standard errors, spread within 5 of its own."""
    count = tensor.numel()
    assert abs(tensor.mean().item() - mean) <= 5 * spread / math.sqrt(count) + 1e-12
    if spread and count > 1:
        assert tensor.std().item() == pytest.approx(spread, rel=5 / math.sqrt(count))
    else:
        assert count == 1 or tensor.std().item() < 1e-12


def test_uniform_weights_keep_their_bound_and_normal_ones_do_not():
    _, _, basic, _ = networks("basic")
    assert basic[0].weight.abs().max().item() == pytest.approx(0.17321, rel=1e-3)
    assert basic[2].weight.abs().max().item() == pytest.approx(0.15309, rel=1e-3)
    _, _, dcgan, _ = networks("dcgan")
    assert dcgan[0].weight.abs().max() > 4 * 0.02


def test_weights_follow_the_seed_alone():
    one, same, other = (networks("basic", seed=seed)[2] for seed in (1, 1, 2))
    assert torch.equal(one[0].weight, same[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_batch_norm_is_the_originals():
    *_, generator, discriminator = networks("dcgan-206b")
    for network in (generator, discriminator):
        for layer in (m for m in network if isinstance(m, BatchNorm)):
            assert (layer.eps, round(layer.momentum, 4)) == (1e-5, 0.0253)
    assert {m.eps for m in networks("lightning")[2] if isinstance(m, BatchNorm)} == {0.8}


@pytest.mark.parametrize("images", [0, 3])
@pytest.mark.parametrize(
    ("channels", "kernel", "padding", "more"),
    [((64, 1), 5, 2, 1), ((4, 8), 5, 2, 1), ((64, 2), (4, 3), (1, 0), (0, 1))],
    ids=["few", "many", "few, oblong"],
)
def test_transposed_convolution_is_torchs(channels, kernel, padding, more, images):
    """Outputs, gradients and their gradients; few channels come of a matrix product."""
    torch.manual_seed(1)
    mine = ConvTranspose2d(*channels, kernel, 2, padding, more).double()
    reference = nn.ConvTranspose2d(*channels, kernel, 2, padding, more).double()
    reference.load_state_dict(mine.state_dict())
    inputs = torch.randn(images, channels[0], 7, 6, dtype=torch.double)
    found = []
    for layer in (mine, reference):
        given = inputs.clone().requires_grad_()
        outputs = layer(given)
        (slope,) = torch.autograd.grad(outputs.tanh().sum(), given, create_graph=True)
        loss = slope.square().sum() + outputs.square().sum()
        found.append([outputs, slope, *torch.autograd.grad(loss, [given, *layer.parameters()])])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "paddle-uniform"])
def test_every_pixel_reaches_the_discriminator(preset):
    """But in dcgan-206b, where those of rows and columns 25 to 27 do not: its noisy band.

    Batch norm is in evaluation mode, as its batch statistics carry traces of rows 25 and 26.
    """
    _, shape, _, discriminator = networks(preset)
    discriminator.eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, *shape, dtype=torch.double, generator=generator)
    images.requires_grad_()
    discriminator(images)[:, 0].square().sum().backward()
    seen = (images.grad != 0).any(dim=0).any(dim=0)
    if preset == "dcgan-206b":
        assert seen[:25, :25].all()
        assert not seen[25:].any() and not seen[:, 25:].any()
    else:
        assert seen.all()


def test_the_last_row_and_column_reach_dcgans_discriminator_like_those_before():
    """As many products of the first convolution hold a pixel as hold the one two before it."""
    _, shape, _, discriminator = networks("dcgan")
    first = next(i for i, m in enumerate(discriminator) if isinstance(m, nn.Conv2d))
    torch.nn.init.ones_(discriminator[first].weight)
    images = torch.zeros(1, *shape, dtype=torch.double, requires_grad=True)
    discriminator[: first + 1].double()(images).sum().backward()
    counts = images.grad[0, 0]
    assert torch.equal(counts[27], counts[25])
    assert torch.equal(counts[:, 27], counts[:, 25])


def test_the_kernel_rule_of_paddle():
    pairs = {(28, 14): (4, 1), (14, 7): (4, 1), (7, 3): (5, 1), (32, 16): (4, 1)}
    for (large, small), expected in pairs.items():
        assert kernel_and_padding(large, small) == expected
    assert kernel_and_padding(9, 3) == (5, 0)
    for large in (5, 10):
        with pytest.raises(ValueError, match="no convolution"):
            kernel_and_padding(large, 3)


def test_networks_refuse_what_they_are_not_for():
    config = new_config({"network": "paddle-points"})
    with pytest.raises(UserError, match="--network paddle-points is for points"):
        build_generator(config, (1, 28, 28))
    config = new_config({"network": "dcgan"})
    with pytest.raises(UserError, match="--network dcgan is for images"):
        build_discriminator(config, (2,))
    with pytest.raises(UserError, match="multiples of 4"):
        build_generator(config, (1, 30, 30))
