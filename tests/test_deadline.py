"""When a job ends, and stopping before it; the schedulers but Slurm are programs that print."""

import re
import time
from pathlib import Path

import pytest
from test_signals import OPTIONS

from gan_mpi.cluster.deadline import End, find_end
from gan_mpi.cluster.time_left import seconds_of
from gan_mpi.errors import UserError
from gan_mpi.lifecycle import stopping
from gan_mpi.lifecycle.stopping import SLACK, Lookout, StopRequest
from gan_mpi.runs import directory as rundir
from gan_mpi.runs.segments import read_segments

TIMES = {
    "90": 5400,
    "0:30": 30,
    "1:30:00": 5400,
    "2-12": 60 * 3600,
    "2-1:30": 49 * 3600 + 1800,
    "1-02:03:04": 93784,
}
HOUR = 3600


@pytest.mark.parametrize("text", TIMES)
def test_times_are_written_as_for_slurm(text):
    assert seconds_of(text) == TIMES[text]


@pytest.mark.parametrize("text", ["", "1h", "-5", "1:2:3:4", "x-1", "1.5"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="is not like|too many parts"):
        seconds_of(text)


STARTED = "Tue Nov 24 11:00:00 2026"
# Variable that names the job, program, what it prints, its arguments, seconds left.
ANSWERS = {
    "Slurm": ("SLURM_JOB_ID", "squeue", "1-00:00:30", "--noheader --jobs 7", 86430),
    "PBS": (
        "PBS_JOBID",
        "qstat",
        f"Job Id: 7.host\n    Resource_List.walltime = 01:00:00\n    stime = {STARTED}",
        "-f 7",
        HOUR,
    ),
    "LSF": ("LSB_JOBID", "bjobs", "1:01 L", "-noheader -o time_left 7", HOUR),
    "Flux": ("FLUX_JOB_ID", "flux", "3600.5", "job timeleft", HOUR),
}
WITHOUT_LIMIT = {
    "Slurm": "UNLIMITED",
    "PBS": "    stime = " + STARTED,
    "LSF": "-",
    "Flux": "inf",
}


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """Put a program on PATH that prints an answer; return what it was called with."""
    for variable, *_ in ANSWERS.values():
        monkeypatch.delenv(variable, raising=False)

    def install(name, answer, code=0):
        variable, program, *_ = ANSWERS[name]
        path = tmp_path / program
        text = f"cat <<'END'\n{answer}\nEND\necho \"$@\" >{tmp_path}/called\nexit {code}"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setenv(variable, "7")
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return tmp_path / "called"

    return install


@pytest.mark.parametrize("name", ANSWERS)
def test_each_scheduler_is_asked_in_its_own_words(scheduler, name):
    _, _, answer, arguments, left = ANSWERS[name]
    called = scheduler(name, answer)
    end, warning = find_end(None, time.time())
    since = time.time()
    if name == "PBS":  # which says when the job began
        since = time.mktime(time.strptime(STARTED, "%a %b %d %H:%M:%S %Y"))
    assert end.at - since == pytest.approx(left, abs=3)
    assert end.source == f"{name}'s time limit"
    assert warning is None
    assert called.read_text().startswith(arguments)


@pytest.mark.parametrize(
    ("answer", "left"),
    [("59:58", 3598), ("30:00\n10:00", 600), ("UNLIMITED\n5:00", 300)],
)
def test_a_task_of_an_array_asks_for_itself(scheduler, monkeypatch, answer, left):
    """And the parts of a heterogeneous job are over with the first."""
    called = scheduler("Slurm", answer)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    end, warning = find_end(None, 0.0)
    assert end.at - time.time() == pytest.approx(left, abs=3) and warning is None
    assert "--jobs 7_3 " in called.read_text()


def test_a_task_of_an_array_under_lsf_asks_for_itself(scheduler, monkeypatch):
    called = scheduler("LSF", "1:01 L")
    monkeypatch.setenv("LSB_JOBINDEX", "3")
    assert find_end(None, 0.0)[0] is not None
    assert called.read_text().strip().endswith("7[3]")


@pytest.mark.parametrize("name", ANSWERS)
def test_a_job_without_a_limit_and_a_scheduler_that_fails(scheduler, name):
    scheduler(name, WITHOUT_LIMIT[name])
    assert find_end(None, 0.0) == (None, None)
    scheduler(name, "", code=1)
    end, warning = find_end(None, 0.0)
    assert end is None
    assert warning.startswith(f"{name} does not say when this job ends (")
    assert find_end("1:00", 0.0) == (End(60.0, "--time-limit 1:00"), None)


def test_the_earlier_end_counts(scheduler):
    scheduler("Slurm", "30:00")
    now = time.time()
    assert find_end("10", now)[0] == End(now + 600, "--time-limit 10")
    assert find_end("40", now)[0].source == "Slurm's time limit"


def test_it_stops_while_two_steps_and_two_saves_fit(tmp_path):
    stop = StopRequest()
    lookout = Lookout(stop, End(time.time() + SLACK + 1.0, "the limit"), tmp_path)
    lookout.check_room(slowest_save=0.4)
    lookout.look(slowest_save=0.4)
    assert not stop.requested
    time.sleep(0.15)
    lookout.look(slowest_save=0.4)  # less than 0.85 s left, and 2 * (0.15 + 0.4) needed
    assert stop.reason == "the limit"
    with pytest.raises(UserError, match="the limit leaves 11 s after the start, and stop"):
        lookout.check_room(slowest_save=0.5)


def test_the_stop_file_is_looked_for_now_and_then_and_used_up(tmp_path):
    stop = StopRequest()
    lookout = Lookout(stop, None, tmp_path)
    (tmp_path / "STOP").touch()
    lookout.look(0.0)
    assert not stop.requested
    time.sleep(1.1)
    lookout.look(0.0)
    assert stop.reason == f"the file {tmp_path / 'STOP'}"
    assert not (tmp_path / "STOP").exists()


def test_a_file_system_that_fails_ends_no_run(tmp_path, monkeypatch):
    stop = StopRequest()
    lookout = Lookout(stop, None, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "LOOK_EVERY", -1.0)
        patch.setattr(Path, "exists", lambda path: (_ for _ in ()).throw(OSError(116, "Stale")))
        lookout.look(0.0)
        assert not stop.requested
    monkeypatch.setattr(stopping, "LOOK_EVERY", -1.0)
    (tmp_path / "STOP").mkdir()  # which is no file to be removed
    stop.require_gone()
    lookout.look(0.0)
    assert stop.reason == f"the file {tmp_path / 'STOP'}"
    with pytest.raises(UserError, match="STOP cannot be removed: Is a directory; remove it."):
        stop.require_gone()  # or job after job would submit itself


def test_a_stop_that_stays_ends_with_a_checkpoint_and_1(gan_mpi, tmp_path):
    assert gan_mpi(*OPTIONS, "--steps", "1", size=2).returncode == 0
    (tmp_path / "run" / "STOP").mkdir()
    result = gan_mpi(*OPTIONS, "--steps", "100000", size=2)
    assert result.returncode == 1 and "stopped after" in result.stdout
    assert result.stderr.count("STOP cannot be removed: Is a directory; remove it.") == 1
    (last, _), *_ = rundir.list_checkpoints(tmp_path / "run")
    assert last > 1


def test_a_time_limit_stops_all_ranks_with_75(gan_mpi, tmp_path):
    limit = ("--steps", "100000", "--time-limit", "0:13")
    began = time.time()
    result = gan_mpi(*OPTIONS, *limit, size=2)
    assert result.returncode == 75, result.stdout + result.stderr
    assert time.time() - began < 13
    assert "(--time-limit 0:13); losses: G" in result.stdout
    (segment,) = read_segments(tmp_path / "run")
    assert segment["state"] == "stopped (--time-limit 0:13)"
    assert segment["node_hours"] == pytest.approx(segment["seconds"] / 3600, abs=1e-4)
    (step, _), *_ = rundir.list_checkpoints(tmp_path / "run")
    assert segment["last_step"] == step
    assert segment["images"] == step * 2 * 60
    again = gan_mpi(*OPTIONS, "--steps", "100000", "--time-limit", "0:08", size=2)
    assert again.returncode == 1
    assert again.stderr.count("Error: --time-limit 0:08 leaves ") == 1


def test_how_long_a_save_took_is_remembered_from_one_job_to_the_next(gan_mpi, tmp_path):
    assert gan_mpi(*OPTIONS, "--steps", "2").returncode == 0
    lines = (tmp_path / "run" / "segments.jsonl").read_text()
    slow = re.sub(r'"seconds_of_a_save": [\d.]+', '"seconds_of_a_save": 100', lines)
    (tmp_path / "run" / "segments.jsonl").write_text(slow)
    again = gan_mpi("train", "--resume", "run", "--steps", "4", "--time-limit", "3")
    assert again.returncode == 1
    assert "stopping in time takes 210 s; give the job more time" in again.stderr


def test_a_bad_time_limit_is_refused(gan_mpi):
    result = gan_mpi("train", "--time-limit", "4h", size=2)
    assert result.returncode == 2
    said = "Error: Invalid value for '--time-limit': '4h' is not like 90 (minutes), 1:30:00"
    assert result.stderr.count(said) == 1
