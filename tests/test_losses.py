"""The losses of CNTK's example at known points."""

import math

import torch

from gan_mpi.losses import CntkLoss

LOSS = CntkLoss()


def test_losses_where_d_cannot_tell():
    half = torch.zeros(1)
    assert LOSS.discriminator(half, half).item() == torch.tensor(2 * math.log(2)).item()
    assert LOSS.generator(half).item() == torch.tensor(1 + math.log(2)).item()


def test_losses_are_those_of_the_scores():
    real, fake = torch.randn(2, 50, dtype=torch.double)
    scores_real, scores_fake = real.sigmoid(), fake.sigmoid()
    expected = -(scores_real.log() + (1 - scores_fake).log())
    assert torch.allclose(LOSS.discriminator(real, fake), expected)
    assert torch.allclose(LOSS.generator(fake), 1 - scores_fake.log())


def test_losses_stay_finite_where_scores_round_to_zero_and_one():
    far = torch.tensor([-200.0, 200.0])
    assert torch.isfinite(LOSS.discriminator(far, far)).all()
    assert torch.isfinite(LOSS.generator(far)).all()
