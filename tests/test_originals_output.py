"""What the originals printed and drew, from whole runs of their presets."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from gan_mpi.config.presets import PRESETS
from gan_mpi.runs import checkpoint


def records(run_dir):
    text = (run_dir / "stats.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def runs(mpirun, tmp_path_factory):
    """The folder of several runs, and what train() answered to each."""
    folder = tmp_path_factory.mktemp("runs")
    tiny = {"batch": 6, "glyphs": 40, "seed": 3}
    points = {"preset": "paddle-uniform", "batch": 8, "steps": 5, "run_dir": "points"}
    of_206b = {"preset": "dcgan-206b", "log_format": "cntk", "steps": 2}
    of_paddle = {"preset": "paddle-uniform", "log_format": "paddle", "steps": 250}
    given = [
        {**tiny, **of_206b, "run_dir": "206b"},
        {**of_paddle, "batch": 8, "run_dir": "paddle"},
        points,
        {**tiny, "log_format": "paddle", "steps": 20, "run_dir": "short"},
        {**tiny, "steps": 1, "run_dir": "both"},
    ]
    for player in ("generator", "discriminator"):
        alone = {**tiny, "train": player, "steps": 2, "log_format": "cntk"}
        given.append({**alone, "run_dir": f"{player}-alone"})
        given.append({**alone, "run_dir": player, "transfer": "both"})
    elsewhere = {"transfer": "206b", "train": "generator", "run_dir": "generator"}
    given.append({**tiny, **elsewhere, "steps": 3})
    for source in ("both", "none"):
        wrong = {"network": "lightning", "steps": 1, "transfer": source}
        given.append({**tiny, **wrong, "outdir": "refused"})
    answers = mpirun(2, "on_small_dcgan", given, str(folder))
    assert answers[0] == answers[1]
    names = [options.get("run_dir", options.get("transfer")) for options in given]
    return folder, list(zip(names, answers[0], strict=True))


@pytest.mark.slow
def test_206b_prints_its_header_and_the_last_update_of_each_step(runs):
    lines = (runs[0] / "206b" / "log.txt").read_text().splitlines()
    header = lines.index("First row is Generator loss, second row is Discriminator loss")
    found = records(runs[0] / "206b")
    expected = [
        f" Minibatch[{step:4d}-{step:4d}]: loss = {record[f'last_loss_{player}']:.6f} * 6;"
        for step, record in enumerate(found, 1)
        for player in "GD"
    ]
    assert lines[header + 1 : header + 5] == expected
    last = found[-1]["last_loss_G"]
    assert lines[header + 5] == f"Training loss of the generator is: {last:.2f}"
    # Two updates of each player a step, of which the row shows the last.
    assert found[0]["updates"] == {"D": 2, "G": 2}
    assert found[0]["loss_G"] != found[0]["last_loss_G"]


@pytest.mark.slow
def test_paddle_prints_its_losses_each_hundred_iterations(runs):
    log = (runs[0] / "paddle" / "log.txt").read_text()
    number = r"(\d+\.\d+(?:e-\d+)?)"
    terms = re.findall(f"d_pos_loss is {number}     d_neg_loss is {number}\n", log)
    losses = re.findall(f"d_loss is {number}    g_loss is {number}\n", log)
    assert len(terms) == len(losses) == 2
    for (positive, negative), (both, _) in zip(terms, losses, strict=True):
        mean = (float(positive) + float(negative)) / 2
        assert float(both) == pytest.approx(mean, rel=1e-6)


@pytest.mark.slow
def test_a_run_shorter_than_a_row_still_has_its_statistics(runs):
    (record,) = records(runs[0] / "short")
    assert record["step"] == 20
    assert (runs[0] / "short" / "losses.png").exists()
    assert "d_loss" not in (runs[0] / "short" / "log.txt").read_text()


@pytest.mark.slow
def test_points_are_drawn_and_described(runs, gan_mpi):
    folder, _ = runs
    log = (folder / "points" / "log.txt").read_text()
    assert re.search(r"mean -?\d\.\d{3} -?\d\.\d{3}  std \d\.\d{3} \d\.\d{3}", log)
    for name in ("reals.png", "fakes-000000.png", "fakes-000005.png"):
        with Image.open(folder / "points" / name) as picture:
            assert picture.size == (660, 660)
            assert picture.text["preset"] == "paddle-uniform"
    run = folder / "points"
    result = gan_mpi("sample", run, "--grid", "2x2")
    assert (result.returncode, "leave out --grid" in result.stderr) == (2, True)
    result = gan_mpi("sample", run)
    assert result.stdout.startswith("samples.png: 10000 points from")


@pytest.mark.slow
def test_points_are_sampled_as_an_array(runs, mpirun):
    folder, _ = runs
    draw = [["points", None, list(range(100)), None, "npz", "points.npz"]]
    assert mpirun(2, "sample_outcomes", draw, str(folder))[0] == [0]
    drawn = np.load(folder / "points.npz")["images"]
    assert (drawn.shape, drawn.dtype) == ((100, 2), np.float64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("player", "idle"),
    [("generator", "discriminator"), ("discriminator", "generator")],
)
def test_one_player_is_trained_against_the_other(runs, player, idle):
    folder, outcomes = runs
    assert next(code for name, code in outcomes if name == player) == 0
    warning = f"Warning: the {idle} is untrained and stays so; --transfer"
    assert warning in (folder / f"{player}-alone" / "log.txt").read_text()
    assert "Warning" not in (folder / player / "log.txt").read_text()
    _, before = checkpoint.newest_valid(folder / "both", print)
    _, first = checkpoint.find_checkpoint(folder / player, 0, print)
    _, after = checkpoint.newest_valid(folder / player, print)
    for name in "GD":
        for key, value in before[name].items():
            assert (value == first[name][key]).all()
            same = bool((value == after[name][key]).all())
            assert same == (name != player[0].upper()), (name, key)
    assert (folder / player / "losses.png").exists()
    assert ("loss_D" in records(folder / player)[0]) == (player == "discriminator")
    batches = (folder / player / "log.txt").read_text().count(" Minibatch[")
    assert batches == 2, "a line for each record, of the player that is trained"


@pytest.mark.slow
def test_a_run_that_goes_on_does_not_begin_from_another(runs):
    message, code, _ = runs[1][-3][1]
    assert "--transfer: generator goes on, and it began from /" in message
    assert "/both/checkpoint-000001.pt, not from 206b" in message and code == 2


@pytest.mark.slow
def test_a_transfer_from_another_network_is_refused(runs):
    folder, outcomes = runs
    said = [
        "--transfer: G of both/checkpoint-000001.pt is not the network of this run",
        "there is no run or checkpoint 'none'",
    ]
    for (_, (message, code, on_all_ranks)), part in zip(outcomes[-2:], said, strict=True):
        assert part in message
        assert (code, on_all_ranks) == (2, True)
    assert not (folder / "refused").exists()


@pytest.mark.slow
def test_a_wrong_transfer_says_what_differs(runs, gan_mpi):
    given = ("--glyphs", "20", "--batch", "6", "--steps", "1", "--run-dir", "new")
    given += ("--transfer", runs[0] / "both")
    labelled = gan_mpi("train", *given, "--conditional")
    assert labelled.returncode == 2
    assert ": --conditional is projection here and was no there." in labelled.stderr
    wider = gan_mpi("train", *given, "--latent-dim", "7", "--network", "small")
    assert "--network is small here and was dense there, --latent-dim is 7 here" in wider.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    "preset",
    [name for name in PRESETS if name != "basic"],
)
def test_twenty_steps_on_real_data(gan_mpi, tmp_path, mnist, cifar10, preset):
    """On 2 ranks, as a user starts it; the pictures have the size of their grid."""
    datadir = cifar10 if preset == "paddle-cifar" else mnist
    data = () if preset == "paddle-uniform" else ("--datadir", datadir)
    options = ("--steps", "20", "--run-dir", "run", *data)
    result = gan_mpi("train", "--preset", preset, *options, size=2, timeout=300)
    assert result.returncode == 0, result.stderr
    if preset == "paddle-uniform":
        with Image.open(tmp_path / "run" / "fakes-000020.png") as picture:
            assert picture.size == (660, 660)
        return
    columns, rows = {"l": (5, 2), "f": (5, 2), "p": (8, 8)}.get(preset[0], (6, 6))
    side = 64 if preset == "paddle-cifar" else 56
    for name in ("reals.png", "fakes-000000.png", "fakes-000020.png"):
        with Image.open(tmp_path / "run" / name) as picture:
            assert picture.size == (columns * (side + 2) + 2, rows * (side + 2) + 2)
            assert picture.mode == ("RGB" if preset == "paddle-cifar" else "L")
