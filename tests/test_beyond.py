"""What none of the originals had: the same on any number of ranks, and it resumes exactly."""

import pytest

pytestmark = pytest.mark.slow

BASE = {"precision": "fp64", "batch": 7, "latent_dim": 10}
DCGAN = {**BASE, "network": "dcgan", "optimizer": "sgd", "lr": 0.01, "batch": 9}
ADAM = {**BASE, "optimizer": "adam", "lr": 1e-3}
STEPS = 5
MANY = {STEPS: 20}  # in `make long`
TWICE = {**DCGAN, "batch": 2}  # leaves a rank without images, and grows without bound by itself
# name, steps, options of both runs, and the options whose effect is looked at.
MODERN = {**ADAM, "network": "modern", "width": 16, "latents": "normal", "beta1": 0.0}
RECIPE = {"loss": "relativistic", "r1": "1:0.1", "r2": "1:0.1", "penalty_every": 2}
CASES = [
    ("minimax", STEPS, BASE, {"loss": "minimax"}),
    ("least-squares", STEPS, BASE, {"loss": "least-squares"}),
    ("hinge", STEPS, BASE, {"loss": "hinge"}),
    ("wasserstein, clipped", STEPS, BASE, {"loss": "wasserstein", "clip": 0.01}),
    (
        "wasserstein, penalised",
        STEPS,
        BASE,
        {"loss": "wasserstein", "gradient_penalty": 10.0},
    ),
    ("nonsaturating", STEPS, {**BASE, "loss": "mean"}, {"loss": "nonsaturating"}),
    ("gradient penalty", STEPS, BASE, {"gradient_penalty": 10.0}),
    ("R1", STEPS, BASE, {"r1": 1.0}),
    ("R2", STEPS, BASE, {"r2": 1.0}),
    ("penalties now and then", STEPS, BASE | {"r1": 1.0, "r2": 2.0}, {"penalty_every": 3}),
    ("weights that change", STEPS, BASE | {"r1": 3.0, "r2": 4.0}, {"r1": "3:1", "r2": "4:9"}),
    ("relativistic", STEPS, BASE, {"loss": "relativistic"}),
    ("relativistic, no images", STEPS, BASE | {"batch": 2}, {"loss": "relativistic"}),
    ("relativistic, G first", STEPS, BASE | {"first": "generator"}, {"loss": "relativistic"}),
    ("relativistic dcgan", STEPS, DCGAN | {"g_steps": 2}, {"loss": "relativistic", "r1": 1.0}),
    ("rates that change", STEPS, ADAM, {"lr": "1e-3:1e-4", "d_beta2": "0.9:0.99"}),
    ("beta2 of fsadagrad that changes", STEPS, BASE, {"beta2": "0.9:0.99"}),
    ("modern", STEPS, MODERN, {**RECIPE, "conditional": "projection", "d_steps": 1}),
    ("augmentation", STEPS, BASE, {"augment": "color,translation,cutout"}),
    (
        "augmentation now and then",
        STEPS,
        BASE | {"r1": 1.0, "r2": 1.0, "gradient_penalty": 1.0},
        {"augment": "color,cutout", "augment_probability": "0.1:0.9"},
    ),
    ("augmentation that adapts", 9, BASE | {"batch": 60}, {"augment": "adaptive"}),
    ("augmented dcgan", STEPS, DCGAN, {"augment": "translation", "conditional": "auxiliary"}),
    (
        "penalties through batch norm",
        STEPS,
        {**DCGAN, "batch": 30, "lr": 1e-4},
        {"gradient_penalty": 1.0, "r1": 1.0},
    ),
    ("penalties, no images", 1, TWICE, {"gradient_penalty": 1.0, "r1": 1.0}),
    ("targets", STEPS, BASE, {"real_targets": "0.7-1.2", "fake_targets": "0-0.3"}),
    ("flip", STEPS, BASE, {"flip": 0.2}),
    ("instance noise", STEPS, BASE, {"instance_noise": 0.5}),
    ("replay", STEPS, BASE, {"replay": 3}),
    ("dropout", STEPS, BASE, {"g_dropout": 0.5}),
    ("dropout of maps", STEPS, DCGAN, {"g_dropout": 0.5}),
    ("sphere", STEPS, {**BASE, "latents": "normal"}, {"latents": "sphere"}),
    ("leaky G", STEPS, BASE, {"g_activation": "leaky"}),
    ("leaky D", STEPS, BASE, {"d_activation": "leaky"}),
    ("other activations", STEPS, DCGAN, {"g_activation": "leaky", "d_activation": "relu"}),
    ("instance norm", STEPS, DCGAN, {"g_norm": "instance", "d_norm": "instance"}),
    ("no norm", STEPS, DCGAN, {"g_norm": "none"}),
    ("spectral norm", STEPS, BASE, {"d_norm": "spectral"}),
    ("spectral norm of maps", STEPS, DCGAN, {"d_norm": "spectral"}),
    ("conditional", STEPS, BASE, {"conditional": "projection"}),
    ("auxiliary", STEPS, BASE, {"conditional": "auxiliary"}),
    ("conditional dcgan", STEPS, DCGAN, {"conditional": "projection"}),
    ("auxiliary dcgan", STEPS, DCGAN, {"conditional": "auxiliary"}),
    (
        "many at once",
        STEPS,
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
AVERAGED = [
    ("ema", STEPS, BASE, {"ema": 0.05}),
    ("ema that changes", STEPS, BASE, {"ema": "0:0.05"}),
]


@pytest.fixture(scope="module")
def found(mpirun):
    return mpirun(3, "beyond_the_originals", [*CASES, *AVERAGED], timeout=500)


@pytest.mark.long
def test_twenty_steps_do_not_depend_on_the_ranks_and_resume_exactly(mpirun):
    cases = [(name, MANY.get(steps, steps), *given) for name, steps, *given in [*CASES, *AVERAGED]]
    for answers in mpirun(3, "beyond_the_originals", cases, timeout=500):
        for name, (gap, (same, apart, _), _moved) in answers.items():
            assert gap is None or gap[0] < 1e-9, name
            assert same and apart == 0, name


@pytest.mark.parametrize("name", [name for name, *_ in [*CASES, *AVERAGED]])
def test_three_ranks_train_what_one_trains(found, name):
    gap, where = found[0][name][0]
    assert gap < 1e-9, where


@pytest.mark.parametrize("name", [name for name, *_ in [*CASES, *AVERAGED]])
def test_a_resumed_run_is_the_same_to_the_bit(found, name):
    for answers in found:
        same, gap, where = answers[name][1]
        assert same and gap == 0, where


@pytest.mark.parametrize("name", [name for name, *_ in CASES])
def test_each_changes_the_weights(found, name):
    gap, where = found[0][name][2]
    assert gap > 1e-6, where


@pytest.mark.parametrize("name", [name for name, *_ in AVERAGED])
def test_the_average_changes_no_training(found, name):
    assert found[0][name][2][0] == 0
