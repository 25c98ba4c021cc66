"""What --explain says of each update adds up, and changes nothing."""

import os
import re

import pytest

from gan_mpi.runs.checkpoint import find_checkpoint

SMALL = ("--glyphs", "50", "--batch", "5", "--latent-dim", "8", "--precision", "fp64")
NAMES = ("count", "loss_real", "D_real", "loss_fake", "D_fake", "gradient")


@pytest.fixture(scope="module")
def updates(mpirun, tmp_path_factory):
    """The lines about each update of two steps on 3 ranks, whose shares are 1, 2 and 2."""
    folder = tmp_path_factory.mktemp("explained")
    given = {"glyphs": 50, "batch": 5, "latent_dim": 8, "steps": 2, "run_dir": "run"}
    answers = mpirun(3, "train_outcomes", [{**given, "explain": True}], str(folder))
    assert answers == [[0]] * 3
    text = (folder / "run" / "log.txt").read_text()
    return re.split(r"^(?=step \d: )", text, flags=re.MULTILINE)[1:]


def row(update, legend):
    """Return the numbers after a legend."""
    (line,) = re.findall(rf"^  {legend} +(.*)$", update, re.MULTILINE)
    return [float(number) for number in line.split()]


def test_every_update_is_explained(updates):
    heads = [update.partition("\n")[0] for update in updates]
    D, G = "D learns from 5 real images, 5 fakes", "G learns from 5 fakes"
    assert heads == [f"step {step}: {what}" for step in (1, 2) for what in (D, D, G)]


def test_shards_follow_each_other(updates):
    second = updates[1]
    spans = re.findall(r"real images (\d+) to (\d+) .*latents (\d+) to (\d+)", second)
    assert spans == [(a, b, a, b) for a, b in (("5", "5"), ("6", "7"), ("8", "9"))]
    latents = re.findall(r"rank \d: latents (\d+) to (\d+)", updates[5])
    assert latents == [("25", "25"), ("26", "27"), ("28", "29")]


def test_sums_of_ranks_add_up_and_are_divided_by_the_global_count(updates):
    assert updates[0].splitlines()[4].split() == list(NAMES)
    for update in updates:
        ranks = [row(update, f"sum of rank {rank}") for rank in range(3)]
        total, mean = row(update, "sum of all"), row(update, "mean")
        assert [sums[0] for sums in ranks] == [1, 2, 2] and total[0] == 5
        for index, all_of_it in enumerate(total):
            summed = sum(sums[index] for sums in ranks)
            assert summed == pytest.approx(all_of_it, rel=1e-4, abs=1e-4)
            assert mean[index] == pytest.approx(all_of_it / 5, rel=1e-4)


def test_times_and_weights_of_every_rank_are_told(updates):
    for update in updates:
        told = re.findall(
            r"rank \d: forward and backward ([\d.]+) ms, Allreduce ([\d.]+) ms, "
            r"update ([\d.]+) ms; (.) is now (\w{8})$",
            update,
            re.MULTILINE,
        )
        assert len(told) == 3
        assert len({weights for *_, weights in told}) == 1
        assert all(float(spent) >= 0 for spent in told[0][:3])
    assert "one of 100609 numbers; one Allreduce of 402480 bytes" in updates[0]


def test_it_changes_nothing(gan_mpi, tmp_path):
    for name, extra in (("told", ("--explain",)), ("quiet", ())):
        options = (*SMALL, "--steps", "2", "--run-dir", name, *extra)
        result = gan_mpi("train", *options, size=2)
        assert result.returncode == 0, result.stderr
    told, quiet = (find_checkpoint(tmp_path / n, None, print)[1] for n in ("told", "quiet"))
    for player in "GD":
        for name, tensor in quiet[player].items():
            assert tensor.equal(told[player][name])


def test_separate_updates_of_D_are_told_apart(gan_mpi):
    options = ("--preset", "paddle-mnist", "--glyphs", "20", "--batch", "4")
    result = gan_mpi("train", *options, "--steps", "1", "--explain")
    assert result.returncode == 0, result.stderr
    fakes, reals = re.findall(r"^step 1: D learns from .*\n.*$", result.stdout, re.MULTILINE)
    assert fakes == "step 1: D learns from 4 fakes\n  rank 0: latents 0 to 3"
    assert reals.startswith("step 1: D learns from 4 real images\n  rank 0: real images")
    assert "latents" not in reals


def test_batch_norms_sums_and_empty_shares_are_told_apart(gan_mpi):
    options = ("--preset", "lightning", "--glyphs", "20", "--batch", "2")
    result = gan_mpi("train", *options, "--steps", "1", "--explain", size=3)
    assert result.returncode == 0, result.stderr
    assert "rank 0: nothing: there are more ranks than images" in result.stdout
    assert len(re.findall("batch norm's sums [0-9.]+ ms", result.stdout)) == 6
    crowded = "; 3 ranks have " in result.stdout and ", in turns\n" in result.stdout
    assert crowded == (len(os.sched_getaffinity(0)) < 3)
