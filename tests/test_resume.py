"""Resume is resume: the same bits as without an interruption."""

import os
import signal
import time

import pytest
import torch
from ranks.states import flat

from gan_mpi.runs import checkpoint
from gan_mpi.runs import directory as rundir

OPTIONS = {"glyphs": 100, "batch": 60, "steps": 60, "checkpoint_every": 25}
MIXED = {"d_optimizer": "sgd", "g_optimizer": "adam", "d_lr_schedule": "cosine"}
MIXED |= {"g_lr_schedule": "step", "g_warmup": 1.0}


def last_state(run_dir):
    return dict(flat(checkpoint.newest_valid(run_dir, pytest.fail)[1]))


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        same = torch.equal(value, other[name]) if torch.is_tensor(value) else value == other[name]
        assert same, name


def apart(one, other):
    """Return how far two states are apart at most, relative to the size of each tensor."""
    assert one.keys() == other.keys()
    return max(distance(value, other[name]) for name, value in one.items())


def distance(one, other):
    if torch.is_tensor(one):
        return (one - other).abs().max().item() / (other.abs().max().item() or 1.0)
    if isinstance(one, float):
        return abs(one - other) / (abs(other) or 1.0)
    return float(one != other)


def kill_in_step_40(start, tmp_path, size, options):
    """Start a run whose ranks wait in the middle of step 40; kill -9 mpiexec and all of them."""
    here = os.path.dirname(__file__)
    code = (
        f"import sys; sys.path.insert(0, {here!r})\n"
        "from gan_mpi.mpi.world import world; from ranks.programs import train_until_killed\n"
        f"train_until_killed(world(), {options!r}, 40)"
    )
    process = start(size=size, code=code)
    markers = [tmp_path / f"rank{rank}.pid" for rank in range(size)]
    deadline = time.monotonic() + 60
    while not all(marker.exists() and marker.read_text() for marker in markers):
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    for marker in markers:
        try:
            os.kill(int(marker.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()


@pytest.mark.launch
@pytest.mark.parametrize(
    ("size", "more"),
    [pytest.param(1, {}, marks=pytest.mark.slow), (3, MIXED)],
    ids=["1 rank", "3 ranks, mixed"],
)
def test_a_run_killed_in_step_40_resumes_to_the_same_bits(start, mpirun, tmp_path, size, more):
    options = {**OPTIONS, **more}
    whole, killed = ({**options, "run_dir": name} for name in ("whole", "killed"))
    kill_in_step_40(start, tmp_path, size, killed)
    steps = [step for step, _ in rundir.list_checkpoints(tmp_path / "killed")]
    assert steps == [25, 0]
    answers = mpirun(size, "train_outcomes", [killed, whole], str(tmp_path))
    assert answers == [[0, 0]] * size
    assert "going on after step 25" in (tmp_path / "killed" / "log.txt").read_text()
    assert_same_bits(last_state(tmp_path / "whole"), last_state(tmp_path / "killed"))
    for name, count in (("stats.jsonl", 60), ("segments.jsonl", 2)):
        assert len((tmp_path / "killed" / name).read_text().splitlines()) == count
    pictures = [tmp_path / name / "fakes-000060.png" for name in ("whole", "killed")]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


@pytest.mark.long
def test_in_fp64_a_run_stopped_on_4_ranks_resumes_on_2(mpirun, tmp_path):
    options = {**OPTIONS, "precision": "fp64", "batch": 7}
    runs = [
        [1, {**options, "run_dir": "whole"}],
        [4, {**options, "run_dir": "moved", "steps": 30}],
        [2, {"resume": "moved", "steps": 60}],
    ]
    assert mpirun(4, "train_on", runs, str(tmp_path))[0] == [0, 0, 0]
    whole, moved = last_state(tmp_path / "whole"), last_state(tmp_path / "moved")
    for name, value in whole.items():
        if torch.is_tensor(value):
            assert (value - moved[name]).abs().max() < 1e-9, name


def files(folder):
    """Return when each file was changed, but for the claim, which each start makes anew."""
    there = (path for path in folder.iterdir() if not path.name.startswith("claim-"))
    return {path: path.stat().st_mtime_ns for path in there}


def test_a_resume_that_would_change_model_or_data_is_refused(mpirun, tmp_path, idx_folder):
    first = {**OPTIONS, "steps": 1, "run_dir": "run"}
    resume = {"resume": "run", "steps": 2}
    mpirun(1, "train_outcomes", [first], str(tmp_path))
    before = files(tmp_path / "run")
    answers = mpirun(
        2,
        "train_outcomes",
        [
            {**resume, "batch": 61, "d_lr": 0.1},
            {**resume, "datadir": str(idx_folder)},
            {"resume": "absent"},
            first,
        ],
        str(tmp_path),
    )
    assert answers[0] == answers[1]
    changed, other, absent, finished = answers[0]
    assert "--batch is 61 now and was 60, --d-lr is 0.1 now and was 5e-05" in changed[0]
    assert "is not the data that this run was trained on, 100 drawn glyphs" in other[0]
    assert absent == ["--resume: absent is not a run directory.", 2, True]
    assert changed[1:] == other[1:] == [2, True]
    assert finished == 0
    assert files(tmp_path / "run") == before


def test_the_checkpoint_before_a_damaged_one_resumes(mpirun, tmp_path):
    first = {**OPTIONS, "steps": 2, "checkpoint_every": 1, "run_dir": "run"}
    longer = {**first, "steps": 3}
    cuts = [[f"run/checkpoint-{step:06d}.pt", 1000] for step in range(4)]
    runs = [first, cuts[2], longer, *cuts[1:], {**longer, "steps": 4}]
    done, resumed, refused = mpirun(2, "train_outcomes", runs, str(tmp_path))[1]
    assert (done, resumed) == (0, 0)
    assert "run/checkpoint-000003.pt is damaged" in refused[0]
    assert refused[1:] == [1, True]
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "going on after step 1" in log
    assert "checkpoint-000002.pt is damaged, or no checkpoint: it does not end in" in log
    assert "Going on from checkpoint-000001.pt." in log


def test_a_damaged_last_checkpoint_is_written_again(gan_mpi, tmp_path):
    train = ("train", "--glyphs", 40, "--batch", 16, "--steps", 5, "--checkpoint-every", 3)
    assert gan_mpi(*train, "--run-dir", "run").returncode == 0
    last = tmp_path / "run" / "checkpoint-000005.pt"
    whole = checkpoint.read_checkpoint(last)
    last.write_bytes(last.read_bytes()[:1000])
    assert "going on after step 3" in gan_mpi(*train, "--run-dir", "run").stdout
    again = checkpoint.read_checkpoint(last)
    assert torch.equal(whole["G"]["0.weight"], again["G"]["0.weight"])
