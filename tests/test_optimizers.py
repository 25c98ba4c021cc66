"""FSAdaGrad against CNTK's own form of it, schedules, and rates."""

import math

import pytest
import torch

from gan_mpi.config.resolve import new_config, resumed_config
from gan_mpi.game.optimizers import (
    FSAdaGrad,
    apply_update,
    make_optimizer,
    schedule_factor,
)
from gan_mpi.game.players import make_player
from gan_mpi.networks.generator import PlainGenerator
from gan_mpi.training.progress import Progress
from gan_mpi.training.turn import rates

MOMENTUM, BETA2, LR = 0.9985724484938566, 0.9999986111120757, 5e-5


def cntk_fsadagrad(weight, gradients, batch):
    """CNTK's update from the sum of the gradients (originals: CPUMatrix::FSAdagrad)."""
    b1, b2 = MOMENTUM**batch, BETA2**batch
    count, variance, smoothed = 0.0, torch.zeros_like(weight), torch.zeros_like(weight)
    for mean_gradient in gradients:
        g = mean_gradient * batch
        count = b2 * count + (1 - b2) * batch
        variance = b2 * variance + (1 - b2) * g * g
        scale = math.sqrt(count) / variance.sqrt()
        x = torch.where(variance == 0, g, g * scale.clamp(max=10))
        smoothed = b1 * smoothed + (1 - b1) * x
        weight = weight - LR * smoothed
    return weight


@pytest.mark.parametrize("batch", [1, 128, 1024])
def test_fsadagrad_on_means_is_cntks_on_sums(batch):
    """200 updates, with gradients on both sides of the cap, and one that is always zero."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1e-6, 1e-4, 3e-3, 1e-1, 10.0, 0.0], dtype=torch.double)
    gradients = torch.randn(200, 6, generator=generator, dtype=torch.double) * scales
    weight = torch.ones(6, dtype=torch.double)
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = FSAdaGrad([parameter], LR, MOMENTUM, BETA2, batch)
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    expected = cntk_fsadagrad(weight, gradients, batch)
    assert (expected != weight).sum() == 5
    assert torch.allclose(parameter.detach(), expected, rtol=0, atol=1e-12)


def test_the_constants_per_update_are_those_of_cntk():
    parameter = torch.nn.Parameter(torch.zeros(1))
    group = FSAdaGrad([parameter], LR, MOMENTUM, BETA2, 1024).param_groups[0]
    assert group["b1"] == pytest.approx(0.23157369, abs=1e-7)
    assert group["b2"] == pytest.approx(0.99857879, abs=1e-7)


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        (
            "adam",
            {"lr": 0.1, "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3},
            torch.optim.Adam,
        ),
        ("sgd", {"lr": 0.1, "momentum": 0.5}, torch.optim.SGD),
    ],
)
def test_the_other_optimizers_are_torchs(kind, settings, expected):
    """apply_update does what step() does, and imports no compiler."""
    moved = []
    for update in (apply_update, expected.step):
        parameter = torch.nn.Parameter(torch.zeros(2))
        optimizer = make_optimizer(kind, [parameter], settings, 8)
        assert type(optimizer) is expected
        group = optimizer.param_groups[0]
        assert group.get("eps") == settings.get("epsilon")
        assert group.get("betas", (None,))[-1] == settings.get("beta2")
        for gradient in (1.0, -3.0, 0.5):
            parameter.grad = torch.tensor([gradient, 2.0])
            update(optimizer)
        moved.append(parameter.detach().clone())
    assert torch.equal(*moved)
    assert (moved[0] != 0).all()


@pytest.mark.parametrize(
    ("schedule", "at_quarter", "at_0_6", "at_end"),
    [
        ("constant", 1, 1, 1),
        ("linear", 0.75, 0.4, 0),
        ("cosine", 0.853553, 0.345492, 0),
        ("step", 1, 0.1, 0.01),
    ],
)
def test_schedules(schedule, at_quarter, at_0_6, at_end):
    for done, factor in ((0.25, at_quarter), (0.6, at_0_6), (1.0, at_end)):
        assert schedule_factor(schedule, done) == pytest.approx(factor, abs=1e-6)


def test_rates_follow_the_images_and_not_the_steps():
    """Halving the batch and doubling the steps leaves the rate at each image where it was."""
    for batch, steps in ((100, 10), (50, 20)):
        config = new_config(
            {
                "batch": batch,
                "steps": steps,
                "lr_schedule": "linear",
                "optimizer": "adam",
            }
        )
        progress = Progress(step=steps // 5)
        assert rates(config, "G", progress)[0] == pytest.approx(2e-4 * 0.8)
    warm = new_config({"batch": 100, "steps": 10, "warmup": 0.8, "lr": 1.0})
    warmed = [rates(warm, "D", Progress(step=step))[0] for step in (0, 1, 3, 4, 9)]
    assert warmed == pytest.approx([0.25, 0.5, 1.0, 1.0, 1.0])


def test_rates_go_from_one_to_another_by_a_cosine_that_a_longer_run_keeps():
    given = {"optimizer": "adam", "lr": "4e-4:2e-4", "d_beta2": "0.9:0.99", "warmup": 0.001}
    config = new_config({**given, "steps": 100, "batch": 10})
    longer = resumed_config(config, {**given, "steps": 300})
    assert longer.steps == 300
    for step, lr, beta2 in (
        (0, 4e-4, 0.9),
        (50, 3e-4, 0.945),
        (25, 3.7071068e-4, None),
        (250, 2e-4, 0.99),
    ):
        for each in (config, longer):
            found = rates(each, "D", Progress(step=step))
            assert found[0] == pytest.approx(lr, rel=1e-7)
            assert beta2 is None or found[1] == pytest.approx(beta2)
            assert rates(each, "G", Progress(step=step))[1] == 0.999
    held = new_config({**given, "steps": 100, "ramp_steps": 10})
    assert rates(held, "G", Progress(step=10))[0] == pytest.approx(2e-4)


@pytest.mark.parametrize("optimizer", ["adam", "fsadagrad"])
def test_an_optimizer_has_the_rates_that_a_player_is_given(optimizer):
    config = new_config({"optimizer": optimizer, "batch": 10}).G
    player = make_player(PlainGenerator(torch.nn.Linear(2, 2)), config, batch=10)
    player.set_rates(0.5, 0.9)
    (group,) = player.optimizer.param_groups
    assert player.lr == 0.5
    if optimizer == "adam":
        assert group["betas"] == (0.5, 0.9)
    else:
        assert group["b2"] == pytest.approx(0.9**10)
