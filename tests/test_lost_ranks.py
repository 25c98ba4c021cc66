"""Ranks that go on without one that is gone; see lost_ranks.py."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import IS_MPICH

from gan_mpi.config.contradictions import check_failure
from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import TrainConfig
from gan_mpi.errors import UserError

TOP = Path(__file__).parents[1]
sys.path.insert(0, str(TOP))
from tests import lost_ranks

on_open_mpi = pytest.mark.skipif(IS_MPICH, reason="ranks of MPICH end with the first that is gone")


@pytest.mark.parametrize(
    ("of_training", "of_run", "named"),
    [
        ({"replay": 1}, {}, "--replay"),
        ({"average": "weights"}, {}, "--average weights"),
        ({"schedule": "balance", "d_update": "separate"}, {}, "--schedule balance"),
        ({"batch_norm": "local"}, {}, "--batch-norm local"),
        ({}, {"explain": True}, "--explain"),
        ({}, {"cuda_aware": True}, "--cuda-aware"),
    ],
)
@pytest.mark.parametrize("what", ["shrink", "respawn"])
def test_it_is_refused_where_more_than_work_is_lost(of_training, of_run, named, what):
    config = TrainConfig(**of_training)
    check_failure(config, RunConfig(**of_run))
    with pytest.raises(UserError, match=f"'--on-failure': {what}, but .*{named}"):
        check_failure(config, RunConfig(on_failure=what, **of_run))


def test_it_is_refused_where_mpi_ends_all_ranks(gan_mpi, tmp_path):
    done = gan_mpi("train", "--glyphs", "10", "--on-failure", "shrink", "--run-dir", tmp_path / "a")
    assert done.returncode == 2
    assert "'--on-failure': shrink, but this" in done.stderr
    assert "mpiexec --with-ft ulfm" in done.stderr
    assert not (tmp_path / "a").exists()


@on_open_mpi
@pytest.mark.mpi
@pytest.mark.launch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "times", "respawns", "fails"),
    [
        ("separate updates", 2, False, True),
        ("evaluations", 1, False, False),
        ("overlap", 1, True, False),
    ],
)
def test_the_others_go_on(kind, times, respawns, fails, tmp_path):
    known = lost_ranks.undisturbed(tmp_path, kind)
    rng = random.Random(kind)
    print(lost_ranks.trial(tmp_path, None, kind, times, rng, known, respawns, fails))


@on_open_mpi
@pytest.mark.mpi
@pytest.mark.launch
@pytest.mark.hours
@pytest.mark.parametrize("hosts", ["1", "2"])
def test_twenty_losses_at_random_moments(hosts):
    words = ["--trials", "20", "--seed", "1", "--hosts", hosts]
    done = subprocess.run(
        [sys.executable, "-m", "tests.lost_ranks", *words],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
