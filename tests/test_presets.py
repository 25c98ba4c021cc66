"""Every original trains here, the same on any number of ranks, and resumes exactly."""

import pytest
from click.testing import CliRunner

from gan_mpi.cli import cli
from gan_mpi.config.presets import PRESETS
from gan_mpi.config.resolve import new_config

SMALL = {"batch": 7}  # of 3 ranks: 2, 2 and 3
GRADIENTS = ("gradients", "gradients", (3,), 0, {"preset": "dcgan-206b", "batch": 32})


# `make long` has them all: those of 206B take ten times as long.
# By preset federated each rank trains a model of its own: test_sites.py.
ONE_MODEL = [name for name in PRESETS if name != "federated"]
QUICK = ["paddle-mnist", "paddle-uniform", "lightning"]


def cases(names, steps, **given):
    """Return each preset's case: name, kind, numbers of ranks, steps, options.

    In D of paddle-uniform most first ReLUs are open for all points, so that their biases too have
    no gradient but rounding; it takes Adam's usual epsilon for that to stay below 1e-9.
    """
    found = []
    for name in names:
        options = {"preset": name, "precision": "fp64", **given}
        if name == "paddle-uniform":
            options["epsilon"] = 1e-8
        found.append((name, "not idle", (3,), steps, options))
    return found


@pytest.fixture(scope="module")
def answers(mpirun):
    """What 3 ranks found, in one start: gaps, resumes, and who was trained."""
    balanced = {"preset": "paddle-uniform", "precision": "fp64", "lr": 0.01}
    calls = [
        ["invariance", [*cases(QUICK, 3, **SMALL), GRADIENTS]],
        *(["resumes_exactly", {"preset": name, **SMALL}] for name in QUICK),
        ["trained_on_each_size", 3, 100, balanced],
    ]
    return mpirun(3, "several", calls, timeout=250)


@pytest.mark.long
def test_ten_steps_do_not_depend_on_the_ranks(mpirun):
    for name, sizes in mpirun(3, "invariance", cases(ONE_MODEL, 10, **SMALL), timeout=1500)[
        0
    ].items():
        gap, where = sizes["3"]
        print(f"{name}: {gap:.1e} in {where}")
        assert gap < 1e-9, f"{name}: {where}"


@pytest.mark.slow
@pytest.mark.parametrize("preset", QUICK)
def test_any_number_of_ranks_trains_the_same_model(answers, preset):
    """fp64, 3 steps: parameters, running statistics, optimizer states and losses.

    But not biases before a batch norm, whose gradient is rounding that Adam blows up.
    """
    gap, where = answers[0][0][preset]["3"]
    assert gap < 1e-9, where


@pytest.mark.slow
def test_fp32_gradients_of_one_update_do_not_depend_on_the_ranks(answers):
    gap, where = answers[0][0]["gradients"]["3"]
    assert gap < 1e-4, where


def check_resumed(names, found):
    for name, (same, gap, where) in zip(names, found, strict=True):
        assert same, name
        assert gap == 0, f"{name}: {where}"


@pytest.mark.slow
def test_presets_resume_exactly(answers):
    check_resumed(QUICK, answers[0][1:-1])


@pytest.mark.long
def test_the_other_presets_resume_exactly(mpirun):
    names = [name for name in ONE_MODEL if name not in QUICK]
    calls = [["resumes_exactly", {"preset": name, **SMALL}] for name in names]
    check_resumed(names, mpirun(2, "several", calls, timeout=250)[0])


@pytest.mark.slow
def test_who_is_trained_by_the_balance_rule_does_not_depend_on_the_ranks(answers):
    one, two, three = answers[0][-1]
    assert one == two == three == answers[1][-1][0] == answers[2][-1][0]
    assert len(one) == 100
    assert {"D", "G"} == set(one)
    assert "DDDDDD" not in one and "GGGGGG" not in one
    assert "DDDDD" in one or "GGGGG" in one, "the limit of five was never reached"


def test_presets_are_listed_and_described():
    listed = CliRunner().invoke(cli, ["presets"], standalone_mode=False)
    lines = listed.output.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)
    assert max(map(len, lines)) <= 100
    for name, preset in PRESETS.items():
        page = CliRunner().invoke(cli, ["presets", name], standalone_mode=False).output
        assert f"gan-mpi train --preset {name}" in page
        assert preset.original in page
        assert page.count("\n  - ") == len(preset.oddities)
    page = CliRunner().invoke(cli, ["presets", "dcgan-206b"], standalone_mode=False)
    for said in (
        "ConvTranspose2d 5x5, stride 2, padding 2        128x14x14      409,728",
        "generator: 100 to 1x28x28, 6,947,713 parameters",
        "beta2 0.99982",
        "g_latents        repeated",
    ):
        assert said in page.output


def test_an_unknown_preset_is_refused():
    result = CliRunner().invoke(cli, ["presets", "dcgam"])
    assert result.exit_code == 2
    assert "'dcgam' is not one of 'basic', 'dcgan'" in result.output


def test_presets_are_the_originals_settings():
    config = new_config({"preset": "dcgan-206b"})
    assert (config.batch, config.steps, "".join(config.turn)) == (128, 5_000, "DDGG")
    assert (config.range, config.latents, config.g_latents) == (
        "unit",
        "uniform",
        "repeated",
    )
    assert config.G.settings == pytest.approx(
        {"lr": 2e-4, "beta1": 0.5, "beta2": 0.99982224, "epsilon": 1e-8 / 128}
    )
    config = new_config({"preset": "lightning", "fast": False})
    assert ("".join(config.turn), config.batch, config.latents) == ("GD", 256, "normal")
    assert config.G.settings == {
        "lr": 2e-4,
        "beta1": 0.5,
        "beta2": 0.999,
        "epsilon": 1e-8,
    }
    config = new_config({"preset": "paddle-uniform", "d_lr": 0.5})
    assert (config.schedule, config.d_update, config.latent_dim) == (
        "balance",
        "separate",
        10,
    )
    assert (config.G.lr, config.D.lr) == (1e-4, 0.5)
    config = new_config({"preset": "dcgan"})
    assert ("".join(config.turn), config.range) == ("DDG", "signed")
