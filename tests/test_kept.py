"""A run directory that version 0.5 left opens, draws, goes on and is reported as it was then."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gan_mpi.runs import checkpoint
from gan_mpi.runs.evaluations import read_evaluations
from gan_mpi.runs.record import DataRecord

KEPT = Path(__file__).parent / "kept" / "0.5"


@pytest.fixture
def run(tmp_path):
    """A copy of the run: pictures of 4x4 with labels, and all that a checkpoint may hold."""
    shutil.copytree(KEPT / "run", tmp_path / "run")
    return tmp_path / "run"


def test_its_checkpoint_is_read_and_would_be_written_with_the_same_keys(run):
    saved = checkpoint.read_checkpoint(run / "checkpoint-000004.pt")
    assert DataRecord.from_dict(saved["data"]).to_dict() == saved["data"]
    assert json.loads((run / "config.json").read_text())["data"] == saved["data"]
    assert {"G_ema", "replay", "balance", "window", "G_optimizer"} <= saved.keys()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda saved: saved.pop("progress"), "it lacks progress; take the version that wrote it."),
        (lambda saved: saved["config"].update(magic=1), "not known here: magic; take"),
        (lambda saved: saved["config"]["G"].update(magic=1), "not known here: magic; take"),
        (lambda saved: saved["data"].update(shape="x"), "its data are described otherwise"),
        (lambda saved: saved["config"].pop("ema"), None),  # an older version's has fewer
    ],
)
def test_a_checkpoint_of_another_version_is_named(gan_mpi, run, change, said):
    (path,) = run.glob("checkpoint-*.pt")
    saved = checkpoint.read_checkpoint(path)
    change(saved)
    saved["version"] = "9.9"
    path.write_bytes(checkpoint.pack(saved))
    resume = ["train", "--resume", run, "--datadir", KEPT / "shades", "-n"]
    for words in (["sample", path, "--out", run / "x.png"], resume):
        done = gan_mpi(*words)
        if said is None:
            assert done.returncode == 0, done.stderr
        else:
            assert done.returncode == 1 and done.stderr.count("Error: ") == 1, done.stderr
            assert "was written by gan-mpi 9.9, and this is " in done.stderr and said in done.stderr


def test_it_goes_on_with_its_data(gan_mpi, run):
    before = checkpoint.read_checkpoint(run / "checkpoint-000004.pt")
    result = gan_mpi("train", "--resume", run, "--datadir", KEPT / "shades", "--steps", "6")
    assert result.returncode == 0, result.stderr
    assert "going on after step 4" in (run / "log.txt").read_text()
    assert "arithmetic of gan-mpi (2, before 1)" in result.stdout
    after = checkpoint.read_checkpoint(run / "checkpoint-000006.pt")
    assert after.keys() == before.keys()
    assert after["config"] == {**before["config"], "steps": 6}
    # The folder is another one here; what is in it is not.
    for name in before["data"].keys() - {"source", "datadir"}:
        assert after["data"][name] == before["data"][name]
    assert after["progress"] == {
        "step": 6,
        "updates_G": 6,
        "updates_D": 12,
        "images": 72,
        "latents": 108,
    }
    assert len((run / "segments.jsonl").read_text().splitlines()) == 2
    assert len((run / "stats.jsonl").read_text().splitlines()) == 6


def test_it_draws_the_same_samples(gan_mpi, run):
    """To one step of grey: another processor may round otherwise."""
    result = gan_mpi(
        "sample", run, "--class", "0", "--seeds", "0-3", "--format", "npz", "--out", run / "x.npz"
    )
    assert result.returncode == 0, result.stderr
    with np.load(run / "x.npz") as drawn, np.load(KEPT / "samples.npz") as kept:
        assert drawn["labels"].tolist() == kept["labels"].tolist()
        apart = drawn["images"].astype(int) - kept["images"]
    assert abs(apart).max() <= 1


def test_it_is_reported_and_told_about(gan_mpi, run):
    result = gan_mpi("status", run)
    assert result.returncode == 0 and "step 4 of 4 (100%), epoch 4.00" in result.stdout
    result = gan_mpi("report", run, "--out", run / "page.html")
    assert result.returncode == 0, result.stderr
    page = (run / "page.html").read_text()
    assert "Losses" in page and "samples at" in page
    assert read_evaluations(run) == []
