"""A run directory that version 0.5 left opens, draws, goes on and is reported as it was then."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gan_mpi import __version__
from gan_mpi.config.training import TrainConfig
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


def rewritten(run, change, version):
    """Change what the run's checkpoint holds, as another program might have written it."""
    (path,) = run.glob("checkpoint-*.pt")
    saved = checkpoint.read_checkpoint(path)
    change(saved)
    saved["version"] = version
    path.write_bytes(checkpoint.pack(saved))
    return path


def refused(gan_mpi, words):
    """Return the one sentence of a program that could not."""
    done = gan_mpi(*words)
    assert done.returncode == 1 and done.stderr.count("Error: ") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


OTHERS = [  # that draw, and that go on
    (lambda saved: saved.pop("progress"), "it lacks progress; take the version that wrote it."),
    (lambda saved: saved["config"].update(magic=1), "not known here: magic; take"),
    (lambda saved: saved["config"]["G"].update(magic=1), "not known here: G.magic; take"),
    (lambda saved: saved.update(G_ema=3), "its G_ema is written otherwise"),
    (lambda saved: saved["config"].update(G=3), "its G is 3, which is not known here"),
    (lambda saved: saved["data"].update(shape="x"), "its data is written otherwise"),
    (lambda saved: saved["data"].update(shape=[1, 0, 28]), "its data is written otherwise"),
    (lambda saved: saved["progress"].update(step=-1), "its progress is written otherwise"),
    (lambda saved: saved.update(progress={}), "its progress is written otherwise"),
    (lambda saved: saved["config"].update(network="x"), "its network is 'x', which is not known"),
    (lambda saved: saved["config"].update(latent_dim=10**9), "its latent_dim is 1000000000, w"),
    (lambda saved: saved["config"].update(every="x"), "its every is 'x', which is not known here"),
    (lambda saved: saved["config"]["D"].update(lr=-1.0), "its D.lr is -1.0, which is not known"),
]


def test_a_checkpoint_that_lacks_what_its_settings_need_is_named(gan_mpi, run):
    rewritten(run, lambda saved: saved.pop("replay"), "9.9")
    resume = ["train", "--resume", run, "--datadir", KEPT / "shades", "-n"]
    assert "it lacks replay" in refused(gan_mpi, resume)


@pytest.mark.parametrize(("change", "said"), OTHERS)
def test_a_checkpoint_of_another_version_is_named(gan_mpi, run, change, said):
    path = rewritten(run, change, "9.9")
    resume = ["train", "--resume", run, "--datadir", KEPT / "shades", "-n"]
    for words in (["sample", path, "--out", run / "x.png"], resume):
        error = refused(gan_mpi, words)
        assert "was written by gan-mpi 9.9, and this is " in error and said in error


def test_an_older_version_has_fewer_settings(gan_mpi, run):
    path = rewritten(run, lambda saved: saved["config"].pop("ema"), "0.1")
    resume = ["train", "--resume", run, "--datadir", KEPT / "shades", "-n"]
    for words in (["sample", path, "--out", run / "x.png"], resume):
        done = gan_mpi(*words)
        assert done.returncode == 0, done.stderr


def flatten(tensors):
    for name, value in tensors.items():
        tensors[name] = value.flatten() if torch.is_tensor(value) else value


@pytest.mark.parametrize(
    ("change", "draws"),
    [
        (lambda saved: saved["G_ema"]["network"].popitem(), False),
        (lambda saved: saved["D"].popitem(), True),
        (lambda saved: saved["config"].update(latent_dim=9), False),
        (lambda saved: saved["D_optimizer"]["param_groups"].clear(), True),
        (lambda saved: saved["D_optimizer"].update(state=3), True),
        (lambda saved: flatten(saved["D_optimizer"]["state"][0]), True),
        (lambda saved: flatten(saved["replay"]), True),
    ],
)
def test_other_tensors_than_the_settings_say_are_refused(gan_mpi, run, change, draws):
    path = rewritten(run, change, __version__)
    said = f"Error: {path} cannot be used: its tensors are not those of the networks that its "
    if not draws:
        assert said in refused(gan_mpi, ["sample", path, "--out", run / "x.png"])
        assert not (run / "x.png").exists()
    resume = ["train", "--resume", run, "--datadir", KEPT / "shades", "--steps", "5"]
    assert said in refused(gan_mpi, resume)


def test_it_goes_on_with_its_data(gan_mpi, run):
    before = checkpoint.read_checkpoint(run / "checkpoint-000004.pt")
    result = gan_mpi("train", "--resume", run, "--datadir", KEPT / "shades", "--steps", "6")
    assert result.returncode == 0, result.stderr
    assert "going on after step 4" in (run / "log.txt").read_text()
    assert "arithmetic of gan-mpi (2, before 1)" in result.stdout
    after = checkpoint.read_checkpoint(run / "checkpoint-000006.pt")
    assert after.keys() == before.keys()
    since = {name: value for name, value in after["config"].items() if name not in before["config"]}
    assert since == {name: getattr(TrainConfig, name) for name in since}, "they are off"
    assert after["config"] == {**before["config"], **since, "steps": 6}
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


@pytest.mark.launch
def test_a_rank_that_alone_cannot_load_ends_the_job(launch, run):
    """And is no checkpoint that all refuse, for which the others would wait without end."""
    code = (
        "import gan_mpi.training.state as s; from gan_mpi.mpi import launcher\n"
        "from gan_mpi.__main__ import main\nload = s.RunState.load\n"
        "def fail(*both):\n    if launcher.rank() == 1: raise RuntimeError('{}')\n    load(*both)\n"
        "s.RunState.load = fail\nmain()"
    )
    resume = ("train", "--resume", run, "--datadir", KEPT / "shades", "--steps", "5")
    done = launch(*resume, size=2, timeout=30, code=code.format("no memory"))
    assert done.returncode == 1 and "Rank 1 on" in done.stderr and "Traceback" in done.stderr
