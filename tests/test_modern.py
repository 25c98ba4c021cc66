"""The networks without normalisation: mirror images, for square pictures of many sizes."""

import math

import pytest
import torch
from conftest import but_slow

from gan_mpi.config.resolve import new_config
from gan_mpi.errors import UserError
from gan_mpi.networks.build import build_discriminator, build_generator
from gan_mpi.networks.modern import Block, Conv, Cut, Half, Twice, stages

SIDES = {16: 3, 28: 4, 32: 4, 64: 5, 128: 6, 256: 7}  # and how many stages


def networks(side, channels=3, classes=0, **given):
    config = new_config({"network": "modern", "latent_dim": 8, **given})
    shape = (channels, side, side)
    counts = (5,) * classes
    return build_generator(config, shape, counts), build_discriminator(config, shape, classes)


@pytest.mark.parametrize("side", but_slow(SIDES, (16, 28, 64)))
def test_every_size_is_drawn_and_judged(side):
    G, D = networks(side, width=16, blocks=2)
    images = G(torch.randn(2, 8).double())
    assert images.shape == (2, 3, side, side) and images.abs().max() <= 1
    assert D(images).shape == (2, 1) and D(images[:0]).shape == (0, 1)
    for network in (G, D):
        assert sum(isinstance(layer, Block) for layer in network) == 2 * SIDES[side]


def test_labels_are_given_to_both():
    G, D = networks(28, 1, classes=3, conditional="projection", width=16)
    latents = torch.randn(1, 8).double().expand(3, 8)
    images = G(latents, torch.arange(3))
    assert (images[0] - images[1]).abs().max() > 1e-3
    assert D(images, torch.arange(3)).shape == (3, 1)


def test_a_discriminator_mirrors_its_generator():
    G, D = networks(32, width=64)
    kinds = {Twice: Half}
    of_G = [layer for layer in G if isinstance(layer, (Block, Twice))][::-1]
    of_D = [layer for layer in D if isinstance(layer, (Block, Half))]
    assert [kinds.get(type(layer), type(layer)) for layer in of_G] == [type(x) for x in of_D]
    sizes = [[p.shape for p in layer.parameters()] for layer in of_G]
    assert sizes == [[p.shape for p in layer.parameters()] for layer in of_D]


def test_large_maps_have_fewer_channels():
    assert stages((3, 256, 256), 64) == [
        (4, 64), (8, 64), (16, 64), (32, 32), (64, 16), (128, 16), (256, 16),
    ]  # fmt: skip
    assert stages((1, 28, 28), 72)[-1] == (32, 40), "in steps of 8"
    G, _ = networks(32, width=64)
    groups = {layer.groups for block in G if isinstance(block, Block) for layer in block.f[2:3]}
    assert groups == {8, 4}, "each 3x3 convolution sees 16 channels"


def test_blocks_begin_as_nothing_and_maps_keep_their_size():
    torch.manual_seed(0)
    G, D = networks(32, width=64, blocks=3)
    maps = torch.randn(4, 64, 32, 32).double()
    for network in (G, D):
        blocks = [layer for layer in network if isinstance(layer, Block)]
        block = next(each for each in blocks if each.f[0].in_channels == 64)
        assert torch.equal(block(maps), maps)
        deviation = block.f[:4](maps).square().mean().sqrt().item()
        assert deviation == pytest.approx(12**-0.5, rel=0.1), "of 12 blocks, by Fixup"
    images = torch.cat([G(torch.randn(50, 8).double()) for _ in range(4)])
    assert 0.3 < images.std().item() < 0.8
    assert 0.05 < D(images).std().item() < 2


def test_maps_are_resampled_by_a_triangle():
    ramp = torch.arange(5.0).double().expand(1, 2, 5, 5)
    twice = Twice()(ramp)
    assert twice[0, 1, 4].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 2]
    half = Half()(torch.arange(6.0).double().expand(1, 2, 6, 6))
    assert half[0, 1, 1].tolist() == [0.25, 2, 4]
    maps = torch.randn(2, 3, 8, 8).double()
    other = torch.randn(2, 3, 16, 16).double()
    transposed = (Twice()(maps) * other).sum(), 4 * (maps * Half()(other)).sum()
    assert transposed[0].item() == pytest.approx(transposed[1].item()), "each other's transpose"


def test_digits_are_cut_from_larger_pictures_and_padded_again():
    G, D = networks(28, 1, width=16)
    assert any(isinstance(layer, Cut) for layer in G)
    images = torch.zeros(1, 1, 28, 28).double()
    assert D[0](images).shape[2:] == (32, 32)
    images.requires_grad_()
    D(images).sum().backward()
    assert (images.grad != 0).all(), "every pixel is seen"


def test_first_weights_are_normal_by_their_gain():
    G, _ = networks(32, width=64)
    (block, *_) = (layer for layer in G if isinstance(layer, Block))
    for layer, gain in ((block.f[0], block.f[0].gain), (block.f[2], block.f[2].gain)):
        assert gain == pytest.approx(math.sqrt(2 / 1.04) * 4**-0.25)
        fan_in = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx(gain / math.sqrt(fan_in), rel=0.05)
        assert (layer.bias == 0).all()
    assert [layer.bias for layer in G if isinstance(layer, Conv)] == [None, None]


@pytest.mark.parametrize(
    ("shape", "given", "said"),
    [
        ((3, 20, 20), {}, "square images with sides of 28, 16, 32, 64, 128, 256, not of 20x20"),
        ((3, 32, 64), {}, "not of 32x64"),
        ((1, 28, 28), {"width": 20}, "'--width': 20 is not a multiple of 8"),
        ((1, 28, 28), {"g_activation": "relu"}, "'--g-activation': relu, but the hidden layers"),
        ((1, 28, 28), {"g_dropout": 0.5}, "'--g-dropout': 0.5, but the hidden layers of --network"),
        ((1, 28, 28), {"g_norm": "none"}, "'--g-norm': none, but that network of --network modern"),
    ],
)
def test_what_cannot_be_is_refused(shape, given, said):
    with pytest.raises(UserError, match=said.replace("(", ".")):
        build_generator(new_config({"network": "modern", **given}), shape)


def test_blocks_that_begin_at_zero_have_no_spectral_norm():
    with pytest.raises(UserError, match="'--d-norm': spectral, but blocks of --network modern"):
        networks(28, 1, width=16, d_norm="spectral")


def test_sizes_are_of_these_networks_alone():
    with pytest.raises(UserError, match="'--blocks': it is of --network modern, and this is dense"):
        new_config({"blocks": 2})
