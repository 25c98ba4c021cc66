"""The losses of the originals at known points."""

import math

import pytest
import torch

from gan_mpi.losses import LOSSES

LOSS = LOSSES["sum"]


def discriminator(loss, real, fake):
    return loss.discriminator(loss.real(real), loss.fake(fake))


def test_losses_where_d_cannot_tell():
    half = torch.zeros(1)
    assert (
        discriminator(LOSS, half, half).item() == torch.tensor(2 * math.log(2)).item()
    )
    assert LOSS.generator(half).item() == torch.tensor(1 + math.log(2)).item()


def test_losses_are_those_of_the_scores():
    real, fake = torch.randn(2, 50, dtype=torch.double)
    scores_real, scores_fake = real.sigmoid(), fake.sigmoid()
    expected = -(scores_real.log() + (1 - scores_fake).log())
    assert torch.allclose(discriminator(LOSS, real, fake), expected)
    assert torch.allclose(LOSS.generator(fake), 1 - scores_fake.log())


def test_losses_stay_finite_where_scores_round_to_zero_and_one():
    far = torch.tensor([-200.0, 200.0])
    assert torch.isfinite(discriminator(LOSS, far, far)).all()
    assert torch.isfinite(LOSS.generator(far)).all()


def test_the_mean_is_binary_cross_entropy():
    """Lightning: (BCE(D(x), 1) + BCE(D(G(z)), 0)) / 2 and BCE(D(G(z)), 1)."""
    real, fake = torch.randn(2, 50, dtype=torch.double)
    bce, ones = torch.nn.functional.binary_cross_entropy, torch.ones(50).double()
    expected = (bce(real.sigmoid(), ones) + bce(fake.sigmoid(), 0 * ones)) / 2
    loss = LOSSES["mean"]
    assert discriminator(loss, real, fake).mean().item() == pytest.approx(
        expected.item()
    )
    expected = bce(fake.sigmoid(), ones)
    assert loss.generator(fake).mean().item() == pytest.approx(expected.item())
