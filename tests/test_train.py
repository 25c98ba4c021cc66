"""Whole runs: what they print and leave behind."""

import json

import numpy as np
import pytest
from conftest import MAIN
from PIL import Image
from test_resume import files

from gan_mpi.config.describe import shares
from gan_mpi.runs import directory as rundir

SMALL = ("--glyphs", "50", "--batch", "32", "--latent-dim", "8")


def stats(run_dir):
    return [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_a_person_and_a_resume_need(gan_mpi, tmp_path):
    command = ("train", *SMALL, "--steps", "4", "--checkpoint-every", "2")
    result = gan_mpi(*command, size=2, charts=True)
    assert result.returncode == 0, result.stderr
    run_dir = tmp_path / "runs" / "00000-basic-glyphs-b32"
    with Image.open(run_dir / "losses.png") as chart:
        assert chart.size == (880, 660) and chart.info["preset"] == "basic"
        assert len(np.unique(np.asarray(chart))) > 50
    assert sorted(path.name for path in run_dir.iterdir()) == sorted(
        [
            *(f"checkpoint-{step:06d}.pt" for step in (0, 2, 4)),
            *(f"fakes-{step:06d}.png" for step in (0, 2, 4)),
            *("claim-000001.json", "config.json", "log.txt", "losses.png", "reals.png"),
            *("segments.jsonl", "stats.jsonl"),
        ]
    )
    lines = result.stdout.splitlines()
    assert lines[0].startswith("These are drawn glyphs, not MNIST")
    assert lines[6] == (
        "batch 32: 16 images on each rank in every update; each step trains D, D, G"
    )
    assert sum(line.startswith("step ") for line in lines) == 4
    assert (run_dir / "log.txt").read_text().splitlines() == lines
    run = "runs/00000-basic-glyphs-b32"
    assert lines[-4].startswith("done: 4 of 4 steps, 4 of them in 0:")
    assert lines[-3:] == [
        f"samples: {run}/fakes-000004.png",
        f"draw more: gan-mpi sample {run} --seeds 0-99",
        f"train longer: mpiexec -n 2 gan-mpi train --resume {run} --steps 8",
    ]
    assert [record["step"] for record in stats(run_dir)] == [1, 2, 3, 4]
    assert stats(run_dir)[-1]["kimg"] == 4 * 2 * 32 / 1000
    (segment,) = (run_dir / "segments.jsonl").read_text().splitlines()
    assert json.loads(segment)["ranks"] == 2
    picture = Image.open(run_dir / "fakes-000004.png")
    assert picture.size == (6 * (56 + 2) + 2,) * 2
    assert picture.text["step"] == "4"
    before = files(run_dir)
    for size, launcher in ((None, ""), (2, "mpiexec -n 2 ")):
        again = gan_mpi("train", "--resume", run, size=size)
        longer = f"{launcher}gan-mpi train --resume {run} --steps 8"
        assert again.returncode == 0
        assert again.stdout == f"{run} is finished: it has 4 of 4 steps. Train longer: {longer}\n"
    assert files(run_dir) == before


def test_a_run_that_goes_on_holds_no_second_copy_of_its_tensors(gan_mpi):
    looks = (
        "from gan_mpi.programs import train\n"
        "def write_first(*given, known=train._write_first):\n"
        "    assert set(given[1].saved) == {'version', 'config', 'data', 'progress'}\n"
        "    print('no tensor is left')\n"
        "    known(*given)\n"
        "train._write_first = write_first\n"
    )
    assert gan_mpi("train", *SMALL, "--steps", "1", "--run-dir", "run").returncode == 0
    again = ("train", "--resume", "run", "--steps", "2")
    done = gan_mpi(*again, size=2, code=looks + MAIN)
    assert done.returncode == 0 and done.stdout.count("no tensor is left") == 2, done.stderr


def test_shares_of_any_size_are_announced():
    assert shares(10, 1) == "batch 10: 10 images in every update"
    assert shares(10, 2) == "batch 10: 5 images on each rank in every update"
    assert shares(2, 3) == "batch 2: 0 + 1 + 1 images on ranks 0 to 2"
    assert shares(100, 64) == "batch 100: 1 or 2 images on each rank in every update"


def test_data_mnist_is_found_and_a_log_in_cntks_format(gan_mpi, tmp_path, idx_folder):
    (tmp_path / "data").rename(tmp_path / "MNIST")
    (tmp_path / "data").mkdir()
    (tmp_path / "MNIST").rename(tmp_path / "data" / "MNIST")
    options = (
        "--batch",
        "32",
        "--steps",
        "2",
        "--log-format",
        "cntk",
        "--run-dir",
        "mine",
    )
    result = gan_mpi("train", *options)
    assert "60 images of 1x28x28 from data/MNIST/train-images-idx3-ubyte" in result.stdout
    lines = [line for line in result.stdout.splitlines() if "Minibatch" in line]
    records = stats(tmp_path / "mine")
    assert lines[2:] == [
        f" Minibatch[   3-   4]: loss = {records[1]['loss_D']:.6f} * 64;",
        f" Minibatch[   2-   2]: loss = {records[1]['loss_G']:.6f} * 32;",
    ]
    closing = f"worker: {{0}} is: {{{records[1]['loss_G']:.6f}}}, time taken is: {{"
    assert closing in result.stdout


def test_a_diverging_run_ends_with_exit_code_76_and_keeps_its_checkpoint(gan_mpi, tmp_path):
    result = gan_mpi("train", *SMALL, "--steps", "9", "--lr", "1e38", "--run-dir", "run", size=2)
    assert result.returncode == 76
    assert result.stderr.count("diverged: the loss of D is") == 1
    assert [step for step, _ in rundir.list_checkpoints(tmp_path / "run")] == [0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gradient-penalty", "1e38"), "diverged: the penalty gradient of D is inf in step 1."),
        (("--r1", "1e38"), "diverged: the "),
    ],
)
def test_nothing_that_is_not_finite_is_applied(gan_mpi, tmp_path, words, said):
    """Penalties and gradients too: the losses beside them are finite."""
    result = gan_mpi("train", *SMALL, *words, "--steps", "3", "--run-dir", "run", size=2)
    assert result.returncode == 76, result.stdout
    assert result.stderr.count(said) == 1
    assert [step for step, _ in rundir.list_checkpoints(tmp_path / "run")] == [0]
    for path in (tmp_path / "run").glob("*.json*"):
        assert "Infinity" not in path.read_text() and "NaN" not in path.read_text()


def test_a_generator_that_draws_no_finite_numbers_is_not_saved(gan_mpi, tmp_path):
    """After the last update no loss is computed that would tell."""
    options = ("--steps", "1", "--g-optimizer", "adam", "--g-lr", "3e38")
    result = gan_mpi("train", *SMALL, *options, "--run-dir", "run", size=2)
    assert result.returncode == 76, result.stderr
    assert result.stderr.count("diverged: what the generator draws is not finite") == 1
    assert [step for step, _ in rundir.list_checkpoints(tmp_path / "run")] == [0]


def test_local_batch_norm_trains_and_says_what_it_costs(gan_mpi, tmp_path):
    """The replicas, buffers too, are compared when a checkpoint is written."""
    options = ("--preset", "lightning", "--glyphs", "50", "--batch", "5")
    options += ("--batch-norm", "local")
    result = gan_mpi("train", *options, "--steps", "3", "--run-dir", "run", size=2)
    assert result.returncode == 0, result.stderr
    told = "batch norm is local: the result depends on the number of ranks, here 2."
    assert told in result.stdout
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["batch_norm"] == "local"


def test_local_batch_norm_is_refused_where_it_cannot_be(gan_mpi):
    for options, said in (
        (("--preset", "lightning", "--batch", "1"), "a batch of 1 leaves some of 2"),
        ((), "--network dense has no batch normalisation"),
    ):
        command = ("train", "--glyphs", "50", *options, "--batch-norm", "local")
        result = gan_mpi(*command, "--steps", "1", size=2)
        assert result.returncode == 2
        assert result.stderr.count(said) == result.stderr.count("Error: ") == 1


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (("--preset", "small", "--batch", "1"), None),
        (("--preset", "lightning", "--batch", "3", "--batch-norm", "local"), 2),
        (("--preset", "federated", "--batch", "3"), 2),
    ],
    ids=["of all", "of a rank", "of a site"],
)
def test_one_image_is_no_batch_to_normalise_features_over(gan_mpi, tmp_path, words, size):
    done = gan_mpi("train", "--glyphs", "50", *words, "--steps", "1", size=size)
    said = "Invalid value for '--batch': batch norm would have one image to normalise over"
    assert (done.returncode, done.stderr.count(said)) == (2, 1), done.stderr
    assert not (tmp_path / "runs").exists()


def test_networks_are_not_transferred_to_images_of_another_range(gan_mpi):
    few = ("train", "--preset", "paddle-mnist", "--glyphs", "20", "--batch", "4", "--steps", "1")
    assert gan_mpi(*few, "--range", "unit", "--run-dir", "before").returncode == 0
    done = gan_mpi(*few, "--transfer", "before", size=2)
    said = "Error: --transfer: the networks of before/checkpoint-000001.pt know images in the range"
    assert (done.returncode, done.stderr.count(said)) == (2, 1)
    done = gan_mpi(*few, "--transfer", "before", "--range", "unit", "--latents", "sphere", size=2)
    said = "Warning: --transfer: --latents is sphere here, and the networks learned with normal"
    assert (done.returncode, done.stderr.count(said)) == (0, 1), done.stderr


def test_two_rates_are_in_the_log(gan_mpi, tmp_path):
    options = (
        "--d-optimizer",
        "sgd",
        "--g-optimizer",
        "adam",
        "--steps",
        "2",
        "--run-dir",
        "r",
    )
    options += ("--d-lr-schedule", "linear", "--g-lr-schedule", "cosine")
    result = gan_mpi("train", *SMALL, *options, "--log-format", "plain")
    assert "G: adam, lr 0.0002, beta1 0.5, beta2 0.999, epsilon 1e-08, cosine" in result.stdout
    assert "D: sgd, lr 0.05, momentum 0.9, linear" in result.stdout
    assert "lr 0.0001/0.025" in result.stdout
    assert [record["lr_D"] for record in stats(tmp_path / "r")] == [0.05, 0.025]
