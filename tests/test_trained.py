"""Each original trained to its fast length on real data, on two ranks.  Hours: `make long`.

The runs stay in runs/trained/, for their pictures to be looked at.  One that was interrupted goes
on from there, and one that is done is only measured.
"""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import MPIEXEC, environment

from gan_mpi.datasets.find import find_source, load_dataset
from gan_mpi.runs.evaluations import floors, in_floors, read_evaluations

hours = pytest.mark.hours
RUNS = Path(__file__).parents[1] / "runs" / "trained"
EVALUATED = ("--evaluate-every", 500, "--keep", "all")
BAND = slice(25, 28)  # rows and columns that the discriminator of 206B does not see


def gan_mpi(*arguments, ranks=2):
    command = [*MPIEXEC, "-n", ranks, sys.executable, "-m", "gan_mpi", *arguments]
    command = [*map(str, command)]
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True)


@pytest.fixture
def trained():
    """Train a preset, or go on with it; return its run directory and its records."""

    def train(preset, *options):
        run = RUNS / preset
        gan_mpi("train", "--preset", preset, "--fast", "--run-dir", run, *options)
        lines = (run / "stats.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        steps = np.diff([0, *(record["step"] for record in records)])
        spent = sum(steps * [record["seconds_per_step"] for record in records])
        print(f"{preset}: {records[-1]['step']} steps in {spent / 60:.0f} minutes")
        return run, records

    return train


def told_evaluations(run):
    """Print the evaluations of a run; return them."""
    records = read_evaluations(run)
    for record in records:
        figures = record["figures"]
        named = {key: figures[key] for key in ("precision", "recall", "score")}
        told = ", ".join(f"{key} {value:.2f}" for key, value in named.items())
        print(
            f"step {record['step']}: {floors(record)}, {told}, rarest class "
            f"{min(figures['histogram']):.1%}, {record['seconds']:.0f} s"
        )
    return records


def samples(run, count):
    """Return the first samples of a run's newest checkpoint."""
    target = run / "samples.npz"
    seeds = f"0-{count - 1}"
    gan_mpi("sample", run, "--seeds", seeds, "--format", "npz", "--out", target)
    return np.load(target)["images"]


def last_thousand(records, name):
    """Return the mean over the last 1,000 steps of the last update's loss in each."""
    last = [record for record in records if record["step"] > records[-1]["step"] - 1000]
    return np.mean([record[f"last_loss_{name}"] for record in last])


def brightness(images):
    """Return the means of rows 25 to 27, of columns 25 to 27, and of the band that they make."""
    images = images.reshape(-1, 28, 28).astype(float)
    band = np.zeros((28, 28), dtype=bool)
    band[BAND] = band[:, BAND] = True
    parts = images[:, BAND], images[:, :, BAND], images[:, band]
    return np.array([part.mean() for part in parts])


def of_data(folder):
    return brightness(load_dataset(find_source("mnist", str(folder), None, 0)).images)


@hours
def test_dcgan_206b_settles_where_its_original_did_and_keeps_the_band(trained, mnist):
    """Losses of the original's last log line: G 1.73, D 1.23."""
    run, records = trained("dcgan-206b", "--datadir", mnist)
    losses = last_thousand(records, "G"), last_thousand(records, "D")
    extra = brightness(samples(run, 1000)) - of_data(mnist)
    print(f"G {losses[0]:.3f}, D {losses[1]:.3f}; rows, columns, band brighter by {extra.round(1)}")
    assert losses[0] == pytest.approx(1.73, abs=0.10)
    assert losses[1] == pytest.approx(1.23, abs=0.12)
    assert min(extra) > 20


@hours
def test_dcgan_comes_near_the_floor_and_draws_all_classes(trained, mnist):
    run, _ = trained("dcgan", *EVALUATED, "--datadir", mnist)
    record = told_evaluations(run)[-1]
    assert record["step"] == 5000
    assert in_floors(record) <= 3
    assert min(record["figures"]["histogram"]) >= 0.06


@hours
def test_basic_at_full_length(trained, mnist):
    options = ("--full", "--evaluate-every", 2000, "--keep", "all")
    run, _ = trained("basic", *options, "--datadir", mnist)
    by_step = {each["step"]: in_floors(each) for each in told_evaluations(run)}
    assert by_step[4000] < 147, "a plain prototype's after 3,000 steps"
    assert min(by_step.values()) < 35


@hours
def test_dcgan_has_no_band(trained, mnist):
    run, records = trained("dcgan", *EVALUATED, "--datadir", mnist)
    extra = brightness(samples(run, 1000)) - of_data(mnist)
    losses = last_thousand(records, "G"), last_thousand(records, "D")
    print(f"G {losses[0]:.3f}, D {losses[1]:.3f}; rows, columns, band brighter by {extra.round(1)}")
    assert max(abs(extra)) < 2


@hours
def test_paddle_uniform_finds_the_square(trained):
    run, _ = trained("paddle-uniform")
    points = samples(run, 10_000)
    mean, deviation = points.mean(0), points.std(0)
    cells = np.histogram2d(*points.T, bins=4, range=[[0, 1], [0, 1]])[0] / len(points)
    outside = np.mean((points < -0.05).any(1) | (points > 1.05).any(1))
    print(
        f"mean {mean.round(3)}, deviation {deviation.round(3)}; emptiest cell "
        f"{cells.min():.1%}, outside {outside:.1%}"
    )
    assert mean == pytest.approx(0.5, abs=0.05)
    assert deviation == pytest.approx(0.289, abs=0.05)
    assert cells.min() >= 0.02
    assert outside <= 0.05


@hours
@pytest.mark.parametrize("preset", ["paddle-mnist", "lightning"])
def test_the_others_on_mnist(trained, mnist, preset):
    run, _ = trained(preset, "--datadir", mnist)
    assert samples(run, 100).std(0).max() > 50, "all samples are alike"


@hours
def test_paddle_cifar(trained, cifar10):
    run, _ = trained("paddle-cifar", "--datadir", cifar10)
    assert samples(run, 100).std(0).max() > 50, "all samples are alike"


@pytest.mark.long
def test_sites_draw_the_digits_of_both(tmp_path, mnist):
    """One site has digits 0-4 and the other 5-9; a classifier of real digits judges the samples."""
    sites, run = tmp_path / "sites", tmp_path / "run"
    split = ("data", "split", mnist, sites, "--sites", 2, "--skew", 1)
    gan_mpi(*split, ranks=1)
    data = ("--datadir", sites / "site-{rank}")
    gan_mpi("train", "--preset", "federated", *data, "--run-dir", run)
    gan_mpi("evaluate", run, "--datadir", mnist, "--samples", 1000)
    shares = read_evaluations(run)[-1]["figures"]["histogram"]
    print("classes of the samples: " + " ".join(f"{share:.1%}" for share in shares))
    assert sum(shares[:5]) >= 0.25
    assert sum(shares[5:]) >= 0.25


@pytest.mark.long
@pytest.mark.launch
@pytest.mark.parametrize("preset", ["dcgan-206b", "paddle-uniform"])
def test_the_first_quarter_minute(start, tmp_path, mnist, preset):
    data = () if preset == "paddle-uniform" else ("--datadir", mnist)
    command = ("train", "--preset", preset, "--fast", "--run-dir", "run", *data)
    process = start(*command, size=2, timeout=200)
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=15)
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, out + err
    said = r"stopped after (\d+) of .*; losses: G ([\d.]+)  D ([\d.]+)"
    step, *losses = re.search(said, out).groups()
    assert (tmp_path / "run" / f"fakes-{int(step):06d}.png").exists()
    assert int(step) > 10
    assert all(0.1 < float(loss) < 6 for loss in losses)
