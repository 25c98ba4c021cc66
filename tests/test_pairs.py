"""The loss of pairs, with its penalties, beside a program of plain torch."""

import pytest

from gan_mpi.config.resolve import new_config

RECIPE = {
    "loss": "relativistic",
    "optimizer": "adam",
    "lr": 1e-3,
    "d_steps": 1,
    "precision": "fp64",
    "latent_dim": 10,
    "r1": 0.5,
    "r2": 2.0,
}


@pytest.mark.parametrize(
    ("batch", "every"), [(7, 1), (7, 3), (2, 1)], ids=["every update", "now and then", "no images"]
)
def test_three_ranks_train_what_plain_torch_trains(mpirun, batch, every):
    given = {**RECIPE, "batch": batch, "penalty_every": every}
    gaps = mpirun(3, "beside_plain_torch", 7, given)
    assert max(gaps) < 1e-10


def test_g_alone_is_shown_reals_that_count():
    given = {"loss": "relativistic", "train": "generator", "batch": 10}
    assert new_config(given).images_per_step == 10
    assert new_config({**given, "loss": "sum"}).images_per_step == 0
    assert new_config({**RECIPE, "batch": 10, "g_steps": 3}).images_per_step == 10
