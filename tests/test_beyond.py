"""What none of the originals had: the same on any number of ranks, and it resumes exactly."""

import pytest

BASE = {"precision": "fp64", "batch": 7, "latent_dim": 10}
DCGAN = {**BASE, "network": "dcgan", "optimizer": "sgd", "lr": 0.01, "batch": 9}
TWICE = {**DCGAN, "batch": 2}  # leaves a rank without images
# name, steps, options of both runs, and the options whose effect is looked at.
CASES = [
    ("minimax", 20, BASE, {"loss": "minimax"}),
    ("least-squares", 20, BASE, {"loss": "least-squares"}),
    ("hinge", 20, BASE, {"loss": "hinge"}),
    ("wasserstein, clipped", 20, BASE, {"loss": "wasserstein", "clip": 0.01}),
    (
        "wasserstein, penalised",
        20,
        BASE,
        {"loss": "wasserstein", "gradient_penalty": 10.0},
    ),
    ("nonsaturating", 20, {**BASE, "loss": "mean"}, {"loss": "nonsaturating"}),
    ("gradient penalty", 20, BASE, {"gradient_penalty": 10.0}),
    ("R1", 20, BASE, {"r1": 1.0}),
    (
        "penalties through batch norm",
        20,
        {**DCGAN, "batch": 30, "lr": 1e-4},
        {"gradient_penalty": 1.0, "r1": 1.0},
    ),
    ("penalties, no images", 1, TWICE, {"gradient_penalty": 1.0, "r1": 1.0}),
    ("targets", 20, BASE, {"real_targets": "0.7-1.2", "fake_targets": "0-0.3"}),
    ("flip", 20, BASE, {"flip": 0.2}),
    ("instance noise", 20, BASE, {"instance_noise": 0.5}),
    ("replay", 20, BASE, {"replay": 3}),
    ("dropout", 20, BASE, {"g_dropout": 0.5}),
    ("dropout of maps", 20, DCGAN, {"g_dropout": 0.5}),
    ("sphere", 20, {**BASE, "latents": "normal"}, {"latents": "sphere"}),
    ("leaky G", 20, BASE, {"g_activation": "leaky"}),
    ("leaky D", 20, BASE, {"d_activation": "leaky"}),
    ("other activations", 20, DCGAN, {"g_activation": "leaky", "d_activation": "relu"}),
    ("instance norm", 20, DCGAN, {"g_norm": "instance", "d_norm": "instance"}),
    ("no norm", 20, DCGAN, {"g_norm": "none"}),
    ("spectral norm", 20, BASE, {"d_norm": "spectral"}),
    ("spectral norm of maps", 20, DCGAN, {"d_norm": "spectral"}),
    ("conditional", 20, BASE, {"conditional": "projection"}),
    ("auxiliary", 20, BASE, {"conditional": "auxiliary"}),
    ("conditional dcgan", 20, DCGAN, {"conditional": "projection"}),
    ("auxiliary dcgan", 20, DCGAN, {"conditional": "auxiliary"}),
    (
        "many at once",
        20,
        BASE,
        {
            "conditional": "auxiliary",
            "replay": 2,
            "instance_noise": 0.2,
            "g_dropout": 0.2,
        }
        | {"flip": 0.1, "r1": 0.5, "ema": 0.1, "g_steps": 2, "g_latents": "repeated"},
    ),
]
AVERAGED = ("ema", 20, BASE, {"ema": 0.05})


@pytest.fixture(scope="module")
def found(mpirun):
    return mpirun(3, "beyond_the_originals", [*CASES, AVERAGED], timeout=500)


@pytest.mark.parametrize("name", [name for name, *_ in [*CASES, AVERAGED]])
def test_three_ranks_train_what_one_trains(found, name):
    gap, where = found[0][name][0]
    assert gap < 1e-9, where


@pytest.mark.parametrize("name", [name for name, *_ in [*CASES, AVERAGED]])
def test_a_resumed_run_is_the_same_to_the_bit(found, name):
    for answers in found:
        same, gap, where = answers[name][1]
        assert same and gap == 0, where


@pytest.mark.parametrize("name", [name for name, *_ in CASES])
def test_each_changes_the_weights(found, name):
    gap, where = found[0][name][2]
    assert gap > 1e-6, where


def test_the_average_changes_no_training(found):
    assert found[0]["ema"][2][0] == 0
