"""The dense networks and their initial weights."""

import pytest
import torch

from gan_mpi.networks import build_discriminator, build_generator

SHAPE = (1, 28, 28)


def test_sizes_are_the_originals():
    counts = [
        sum(parameter.numel() for parameter in network.parameters())
        for network in (build_generator(100, SHAPE, 0), build_discriminator(SHAPE, 0))
    ]
    assert counts == [114_064, 100_609]


def test_weights_are_xavier_as_cntk_means_it():
    generator, discriminator = (
        build_generator(100, SHAPE, 0),
        build_discriminator(SHAPE, 0),
    )
    for weight, bound in (
        (generator.layers[0].weight, 0.17321),
        (generator.layers[2].weight, 0.15309),
        (discriminator.layers[1].weight, 0.06186),
    ):
        assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    biases = [
        p
        for net in (generator, discriminator)
        for p in net.parameters()
        if p.dim() == 1
    ]
    assert all((bias == 0).all() for bias in biases)


def test_weights_follow_the_seed_alone():
    one, same, other = (build_generator(10, SHAPE, seed) for seed in (1, 1, 2))
    assert torch.equal(one.layers[0].weight, same.layers[0].weight)
    assert not torch.equal(one.layers[0].weight, other.layers[0].weight)


@pytest.mark.parametrize("shape", [SHAPE, (3, 8, 8)])
@pytest.mark.parametrize("count", [0, 3])
def test_shapes_and_ranges(shape, count):
    images = build_generator(10, shape, 0)(torch.randn(count, 10).double())
    assert images.shape == (count, *shape)
    assert (images.abs() <= 1).all()
    assert build_discriminator(shape, 0)(images).shape == (count,)
