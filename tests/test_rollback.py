"""A run whose numbers are not finite goes back, and on with other random numbers."""

import numpy as np
import pytest
from test_resume import apart, assert_same_bits, last_state

from gan_mpi.runs import checkpoint
from gan_mpi.runs.segments import read_segments, rollbacks_to
from gan_mpi.streams import Purpose, seed_after, uniforms

TRAIN = ("train", "--glyphs", 50, "--batch", 30, "--checkpoint-every", 4, "--precision", "fp64")
EXTRAS = ("--instance-noise", 0.1, "--replay", 2, "--flip", 0.1, "--gradient-penalty", 10)
BACK = ("--on-nan", "rollback")


def inject(rank, step):
    return "--inject", f"rank={rank},step={step},kind=nan"


def rollbacks_in(run_dir):
    return checkpoint.newest_valid(run_dir, pytest.fail)[1].get("rollbacks")


def test_seeds_after_rollbacks_are_others():
    seeds = {seed_after(seed, number) for seed in (0, 1, 2**63 - 1) for number in range(4)}
    assert len(seeds) == 12 and all(0 <= seed < 2**64 for seed in seeds)
    assert seed_after(7, 0) == 7
    one, other = (uniforms(seed_after(7, n), Purpose.LATENTS, 0, 10, 3) for n in (0, 1))
    assert not np.isclose(one, other).any()


def test_a_run_goes_back_and_ends(gan_mpi, tmp_path):
    options = (*TRAIN, *EXTRAS, "--steps", 10, "--run-dir", "run")
    done = gan_mpi(*options, *BACK, *inject(1, 7), size=2)
    assert done.returncode == 0, done.stderr
    (warning,) = [line for line in done.stderr.splitlines() if "diverged" in line]
    assert "in step 7." in warning and "G.0.weight of rank 1 is not finite." in warning
    assert "on with other random numbers (1 of 3 times)." in warning
    assert "going on after step 4" in done.stdout
    assert "random numbers are those after 1 rollback(s)." in done.stdout
    states = [segment["state"] for segment in read_segments(tmp_path / "run")]
    assert states == ["rolled back", "done"]
    assert rollbacks_in(tmp_path / "run") == 1
    gan_mpi(*options[:-1], "plain", size=2)
    plain, back = last_state(tmp_path / "plain"), last_state(tmp_path / "run")
    kept = {name: value for name, value in back.items() if name != ".rollbacks"}
    assert apart(plain, kept) > 1e-3, "other noise, another result"
    assert all(plain[name] == back[name] for name in plain if name.startswith(".progress"))


def test_ranks_and_resumes_agree_on_what_follows(gan_mpi, tmp_path):
    for name, size, steps in (("one", 1, 14), ("three", 3, 14), ("stopped", 3, 10)):
        options = (*TRAIN, "--steps", 14, "--run-dir", name, *BACK, *inject(0, 6))
        if steps < 14:
            options = (*TRAIN, "--steps", steps, "--run-dir", name, *BACK, *inject(0, 6))
        assert gan_mpi(*options, size=size).returncode == 0
    assert gan_mpi("train", "--resume", "stopped", "--steps", 14, size=3).returncode == 0
    one, three, stopped = (last_state(tmp_path / name) for name in ("one", "three", "stopped"))
    assert one[".rollbacks"] == 1
    assert apart(one, three) < 1e-9
    assert_same_bits(three, stopped)


def test_a_rollback_is_known_though_no_checkpoint_knows_of_it():
    def starts(*of):
        return [{"first_step": first, "state": state} for first, state in of]

    back, lost = "rolled back", "lost"
    assert rollbacks_to([], 0) == rollbacks_to(starts((1, lost)), 0) == 0
    assert rollbacks_to(starts((1, back)), 4) == 1, "this start is the one that went back"
    assert rollbacks_to(starts((1, back), (5, lost)), 4) == 1
    assert rollbacks_to(starts((1, back), (5, back), (5, lost)), 4) == 2
    assert rollbacks_to(starts((1, back), (5, lost)), 8) == 0, "which knows of it"
    assert rollbacks_to(starts((1, back), (5, back), (9, lost)), 8) == 1


AT_STEP_6 = """
import torch
from gan_mpi.training.turn import Turn
play = Turn.play
def spoilt(turn):
    if turn.state.progress.step == 5:
        with torch.no_grad():
            next(turn.state.game.D.network.parameters()).fill_(float("inf"))
    return play(turn)
Turn.play = spoilt
try:
    from gan_mpi.__main__ import main; main()
finally:
    Turn.play = play
"""


@pytest.mark.slow
def test_it_goes_back_three_times_at_most(gan_mpi, tmp_path):
    options = (*TRAIN, "--steps", 10, "--run-dir", "run", *BACK)
    done = gan_mpi(*options, size=2, code=AT_STEP_6)
    assert done.returncode == 76
    assert done.stderr.count("The run goes back") == 3
    assert done.stderr.count("Error: diverged: ") == 1
    assert "D.1.weight of rank 0 is not finite." in done.stderr
    assert [each["state"] for each in read_segments(tmp_path / "run")][:3] == ["rolled back"] * 3


def test_without_it_a_run_ends(gan_mpi):
    done = gan_mpi(*TRAIN, "--steps", 10, "--run-dir", "run", *inject(0, 6), size=2)
    assert done.returncode == 76 and "goes back" not in done.stderr
    assert "G.0.weight of rank 0 is not finite." in done.stderr


def test_sites_do_not_go_back(gan_mpi):
    options = ("--average", "weights", "--every", 2, "--steps", 4, "--run-dir", "run")
    done = gan_mpi(*TRAIN, *options, *BACK, size=2)
    assert done.returncode == 2 and "'--on-nan': it takes all ranks back at once" in done.stderr
