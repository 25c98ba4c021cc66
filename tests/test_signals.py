"""A signal stops all ranks at the next step, with a checkpoint and exit code 75."""

import os
import signal
import subprocess
import time

import pytest
from test_resume import assert_same_bits, last_state

from gan_mpi.runs import checkpoint
from gan_mpi.runs import directory as rundir

pytestmark = pytest.mark.launch
OPTIONS = (
    "train",
    "--glyphs",
    "100",
    "--batch",
    "60",
    "--steps",
    "2000",
    "--run-dir",
    "run",
)
SLOW_SAVE = """
import time, gan_mpi.runs.checkpoint as c
pack = c.pack_into
c.pack_into = lambda *a: (time.sleep(1 if a[1]["progress"]["step"] else 0), pack(*a))[1]
from gan_mpi.__main__ import main
main()
"""


def wait_until_it_trains(process, run_dir):
    deadline = time.monotonic() + 60
    while not (run_dir / "stats.jsonl").exists() or not (run_dir / "stats.jsonl").read_text():
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.02)


def a_rank_of(process):
    """Return the process id of one rank: a process far below mpiexec that runs Python."""
    children, found = [process.pid], []
    while children:
        parent = children.pop()
        for task in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{task}/children") as file:
                children += map(int, file.read().split())
        with open(f"/proc/{parent}/cmdline") as file:
            if "gan_mpi" in file.read() and parent != process.pid:
                found.append(parent)
    return found[-1]


def stop(start, tmp_path, target, number, code=None, size=2):
    """Start a run, send the signal, and return the step it stopped after."""
    process = start(*OPTIONS, size=size, code=code)
    wait_until_it_trains(process, tmp_path / "run")
    os.kill(process.pid if target == "mpiexec" else a_rank_of(process), number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 75, out + err
    (step, _), *_ = rundir.list_checkpoints(tmp_path / "run")
    assert 0 < step < 2000
    assert f"stopped after {step} of 2000 steps" in out
    assert f"go on: {'mpiexec -n 2 ' if size else ''}gan-mpi train --resume run" in out
    return step


def test_usr1_to_mpiexec_stops_and_the_rest_is_the_same_to_the_bit(start, mpirun, tmp_path):
    step = stop(start, tmp_path, "mpiexec", signal.SIGUSR1)
    rest = {"resume": "run", "steps": step + 5}
    whole = {"glyphs": 100, "batch": 60, "steps": step + 5, "run_dir": "whole"}
    assert mpirun(2, "train_outcomes", [rest, whole], str(tmp_path))[0] == [0, 0]
    one, other = last_state(tmp_path / "run"), last_state(tmp_path / "whole")
    for state in (one, other):  # where the status lines fall follows the length
        for name in [name for name in state if name.startswith(".window")]:
            del state[name]
    assert_same_bits(one, other)


@pytest.mark.slow
def test_usr1_to_one_rank_and_a_save_that_takes_a_second(start, tmp_path):
    step = stop(start, tmp_path, "rank", signal.SIGUSR1, code=SLOW_SAVE)
    path = rundir.checkpoint_path(tmp_path / "run", step)
    assert checkpoint.read_checkpoint(path)["progress"]["step"] == step


NUMBERS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])


@pytest.mark.slow
@NUMBERS
def test_term_and_int_to_one_rank(start, tmp_path, number):
    stop(start, tmp_path, "rank", number)


@NUMBERS
def test_term_and_int_to_mpiexec(start, tmp_path, mpich, number):
    stop(start, tmp_path, "mpiexec", number)


@pytest.mark.slow
def test_a_closed_terminal_asks_for_a_stop_but_not_under_nohup(start, tmp_path):
    def begin(run_dir):
        process = start(*OPTIONS[:-1], run_dir)
        wait_until_it_trains(process, tmp_path / run_dir)
        process.send_signal(signal.SIGHUP)
        return process

    assert begin("run").wait(30) == 75
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does to what it starts
    try:
        process = begin("ignores")
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 75


@pytest.mark.slow
def test_a_second_interrupt_ends_at_once(start, tmp_path):
    process = start(*OPTIONS, code=SLOW_SAVE)
    wait_until_it_trains(process, tmp_path / "run")
    process.send_signal(signal.SIGINT)
    time.sleep(1.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
