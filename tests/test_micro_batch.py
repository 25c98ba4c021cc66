"""A share in parts: as if it were whole, in less memory."""

import pytest
from conftest import MAIN

BASE = {"precision": "fp64", "batch": 10, "latent_dim": 10}
NO_NORM = {"network": "dcgan", "g_norm": "instance", "d_norm": "none", "latent_dim": 8}
CASES = [
    ("basic", BASE),
    ("separate updates, soft targets", BASE | {"d_update": "separate", "real_targets": "0.7-1.2"}),
    ("balance", {**BASE, "schedule": "balance"}),
    ("repeated latents", BASE | {"g_steps": 2, "g_latents": "repeated", "flip": 0.1}),
    ("spectral norm", BASE | {"d_norm": "spectral", "loss": "hinge", "g_steps": 2}),
    (
        "spectral norm and penalties",
        BASE | {"d_norm": "spectral", "gradient_penalty": 1.0, "r1": 1.0},
    ),
    ("auxiliary", BASE | {"conditional": "auxiliary", "instance_noise": 0.3, "ema": 0.1}),
    ("replay", BASE | {"replay": 2, "conditional": "projection", "g_dropout": 0.3}),
    ("pairs", BASE | {"loss": "relativistic", "g_steps": 2, "r1": 1.0, "r2": 1.0}),
    ("dcgan", {**BASE, **NO_NORM, "batch": 6}),
]
PARTS = 3  # of 10 images: 3, 3, 3 and 1


@pytest.fixture(scope="module")
def found(mpirun):
    return mpirun(4, "in_parts", PARTS, 3, CASES, timeout=300)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in CASES])
def test_one_rank_in_parts_trains_what_four_train(found, name):
    gap, where = found[name][0]
    assert gap < 1e-9, where


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in CASES])
def test_a_run_in_parts_resumes_to_the_same_bits(found, name):
    same, gap, where = found[name][1]
    assert same and gap == 0, where


# Says how many images pass through each network at once.
WATCHED = """
from torch import nn
from gan_mpi.training import build
plain = build.build_with_labels
def watched(*arguments):
    state = plain(*arguments)
    for name, network in state.networks.items():
        network.register_forward_hook(lambda _, given, __, name=name: print(name, len(given[0])))
    return state
build.build_with_labels = watched
"""


@pytest.mark.parametrize("schedule", [(), ("--schedule", "balance"), ("--d-update", "separate")])
def test_no_more_images_pass_at_once(gan_mpi, schedule):
    command = ("train", "--glyphs", 20, "--batch", 10, "--steps", 2, "--micro-batch", 4, *schedule)
    result = gan_mpi(*command, size=2, code=WATCHED + MAIN)
    assert result.returncode == 0, result.stderr
    assert "in parts of at most 4 images, whose sums are added" in result.stdout
    passed = [line.split() for line in result.stdout.splitlines() if line[:2] in ("G ", "D ")]
    training = [int(count) for _, count in passed if int(count) not in (36, 64)]  # of pictures
    assert set(training) == {1, 4} and training.count(4) == training.count(1)


def test_statistics_of_a_batch_have_no_parts(gan_mpi):
    command = ("train", "--glyphs", 20, "--network", "dcgan", "--steps", 2, "--micro-batch", 4)
    result = gan_mpi(*command, size=2)
    assert result.returncode == 2
    said = "Invalid value for '--micro-batch': G and D have batch normalisation"
    assert result.stderr.count(said) == 1, result.stderr
    assert "leave --micro-batch out, or give --g-norm instance --d-norm instance" in result.stderr
    of_D = gan_mpi(*command, "--g-norm", "instance", size=2)
    assert "'--micro-batch': D has batch normalisation" in of_D.stderr
