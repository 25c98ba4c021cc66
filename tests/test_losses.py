"""The losses of the originals at known points."""

import math

import pytest
import torch

from gan_mpi.game.losses import LOSSES

LOSS = LOSSES["sum"]


def discriminator(loss, real, fake):
    return loss.discriminator(loss.real(real), loss.fake(fake))


def test_losses_where_d_cannot_tell():
    half = torch.zeros(1)
    assert discriminator(LOSS, half, half).item() == torch.tensor(2 * math.log(2)).item()
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


def test_the_other_losses_at_known_points():
    real, fake = torch.tensor([2.0, -3.0]), torch.tensor([1.0, -0.5])
    losses = {name: LOSSES[name] for name in ("least-squares", "hinge", "wasserstein")}
    of_D = {n: (x.real(real).tolist(), x.fake(fake).tolist()) for n, x in losses.items()}
    assert of_D["least-squares"] == (
        [0.125, 2.0],
        [0.5, 0.03125],
    )  # D is 1.5, -1; 1, 0.25
    assert of_D["hinge"] == ([0.0, 4.0], [2.0, 0.5])
    assert of_D["wasserstein"] == ([-2.0, 3.0], [1.0, -0.5])
    of_G = {name: loss.generator(fake).tolist() for name, loss in losses.items()}
    assert of_G["least-squares"] == [0.0, 0.28125]
    assert of_G["hinge"] == of_G["wasserstein"] == [-1.0, 0.5]
    log = (1 - fake.sigmoid()).log()
    assert torch.allclose(LOSSES["minimax"].generator(fake), log)
    assert torch.allclose(LOSSES["nonsaturating"].generator(fake), LOSS.generator(fake) - 1)


def test_pairs_are_compared_by_their_difference():
    real, fake = torch.tensor([2.0, -3.0, 0.5]), torch.tensor([1.0, -0.5, 0.5])
    loss, apart = LOSSES["relativistic"], real - fake
    expected = torch.nn.functional.softplus(-apart)
    assert loss.is_paired and not LOSSES["sum"].is_paired
    assert torch.equal(loss.discriminator(loss.real(apart), loss.fake(-apart)), expected)
    assert torch.equal(loss.generator(-apart), torch.nn.functional.softplus(apart))


def test_d_of_a_sample_is_that_of_its_loss():
    logits = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    assert LOSSES["least-squares"].score(logits).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert torch.equal(LOSSES["hinge"].score(logits), logits.sigmoid())
    assert torch.equal(LOSSES["wasserstein"].score(logits), logits), "heights of a critic"


@pytest.mark.parametrize("name", ["sum", "mean", "minimax", "least-squares"])
def test_targets_of_one_and_zero_change_nothing(name):
    loss, logits = LOSSES[name], torch.randn(50, dtype=torch.double)
    ones = torch.ones(50).double()
    assert torch.allclose(loss.real(logits, ones), loss.real(logits))
    assert torch.allclose(loss.fake(logits, 0 * ones), loss.fake(logits))
    soft = 0.9 * loss.real(logits) + 0.1 * loss.real(logits, 0 * ones)
    if name != "least-squares":
        assert torch.allclose(loss.real(logits, 0.9 * ones), soft)


def test_the_mean_is_binary_cross_entropy():
    """Lightning: (BCE(D(x), 1) + BCE(D(G(z)), 0)) / 2 and BCE(D(G(z)), 1)."""
    real, fake = torch.randn(2, 50, dtype=torch.double)
    bce, ones = torch.nn.functional.binary_cross_entropy, torch.ones(50).double()
    expected = (bce(real.sigmoid(), ones) + bce(fake.sigmoid(), 0 * ones)) / 2
    loss = LOSSES["mean"]
    assert discriminator(loss, real, fake).mean().item() == pytest.approx(expected.item())
    expected = bce(fake.sigmoid(), ones)
    assert loss.generator(fake).mean().item() == pytest.approx(expected.item())
