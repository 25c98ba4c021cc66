"""gan-mpi status: from files alone, while a run goes on, after it, and of many runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from conftest import FORKS, MAIN
from test_signals import OPTIONS, wait_until_it_trains

from gan_mpi.cli import cli
from gan_mpi.commands.status import _shown
from gan_mpi.errors import UserError
from gan_mpi.programs.status import page, read_status
from gan_mpi.recording import history
from gan_mpi.runs.segments import append_segment, read_segments
from gan_mpi.runs.stats import read_stats

pytestmark = pytest.mark.launch
WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "mpi4py", "numpy", "matplotlib"):
            raise ImportError(f"{name} is not for login nodes")
sys.meta_path.insert(0, Refuse())
from gan_mpi.__main__ import main
main()
"""


def status(*arguments):
    return CliRunner().invoke(cli, ["status", *map(str, arguments)], standalone_mode=False)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, gan_mpi_in):
    """A run that was looked at while it trained, stopped by a signal, and did 5 steps more."""
    folder = tmp_path_factory.mktemp("status")
    train = [*FORKS.python(MAIN), *OPTIONS]
    process = subprocess.Popen(train, cwd=folder, stdout=subprocess.DEVNULL)
    wait_until_it_trains(process, folder / "run")
    while (running := read_status(folder / "run"))["state"] == "starting":
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 75
    step = read_status(folder / "run")["step"]
    more = gan_mpi_in(folder, "train", "--resume", "run", "--steps", step + 5)
    assert more.returncode == 0, more.stderr
    return folder / "run", running, step


def test_how_far_a_run_is_is_rewritten_now_and_then(tmp_path, monkeypatch):
    """At its first record, after ten seconds, and after each checkpoint."""
    progress = SimpleNamespace(step=0, images=0)
    comm = SimpleNamespace(is_root=True, node_count=1, on_root=lambda function: function())
    run = SimpleNamespace(state=SimpleNamespace(progress=progress), comm=comm, directory=tmp_path)
    now = [100.0]
    monkeypatch.setattr(history, "time", SimpleNamespace(monotonic=lambda: now[0]))
    about = {"date": "2026-01-01", "first_step": 1, "ranks": 1, "hosts": ["a"], "devices": ["cpu"]}
    append_segment(tmp_path, {"id": 7, **about, "versions": {}, "state": "starting"})
    start, said = history.History(run), []
    start.begin(SimpleNamespace(total=2.0), 1.0)
    for step, seconds in ((1, 1), (2, 1), (3, 9), (4, 1)):
        progress.step = step
        now[0] += seconds
        start.update("running") if step == 4 else start.go_on()  # a checkpoint, a record
        (segment,) = read_segments(tmp_path)
        said.append((segment["state"], segment["last_step"]))
    assert said == [("running", 1), ("running", 1), ("running", 1), ("running", 4)]
    progress.step = 5
    now[0] += 10.1
    start.go_on()
    assert read_segments(tmp_path)[0]["last_step"] == 5
    start.update("done")
    assert read_segments(tmp_path)[0]["state"] == "done"


def test_while_it_runs(stopped):
    _run, running, step = stopped
    assert running["state"] == "running"
    assert 0 < running["step"] <= step
    assert running["silent_for"] is None
    left = (2000 - running["step"]) * running["seconds_per_step"]
    assert running["seconds_left"] == pytest.approx(left)
    assert running["node_hours_to_go"] == pytest.approx(left / 3600)
    assert (running["checkpoint_step"], running["warnings"]) == (0, [])
    lines = page(running)
    assert lines[1] == "  state      running"
    assert f"  progress   step {running['step']} of 2000 (" in lines[2]
    assert lines[3].endswith(" left")


def test_after_it_has_ended(stopped):
    run, _, step = stopped
    found = read_status(run)
    assert (found["state"], found["step"], found["steps"]) == (
        "done",
        step + 5,
        step + 5,
    )
    assert (found["checkpoint_step"], found["seconds_left"]) == (step + 5, None)
    assert [each["state"] for each in found["segments"]] == [
        "stopped (SIGUSR1)",
        "done",
    ]
    assert found["node_hours"] == sum(each["node_hours"] for each in found["segments"])
    assert found["figures"].keys() >= {"loss_G", "loss_D", "D_real", "D_fake"}
    last = page(found)[-1]
    assert f"  steps {step + 1}-{step + 5}  1 rank(s) on 1 host(s)  0:" in last
    assert last.endswith("  done")


def test_it_needs_neither_torch_nor_mpi(stopped):
    command = [sys.executable, "-c", WITHOUT_TORCH, "status", stopped[0], "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "done"


def test_a_run_that_died_is_said_to_be_silent(stopped, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(stopped[0], run)
    records = read_stats(run)
    for record in records:
        record["time"] -= 1000
    text = "".join(json.dumps(record) + "\n" for record in records)
    (run / "stats.jsonl").write_text(text + '{"cut off')
    lines = (run / "segments.jsonl").read_text().replace('"done"', '"running"')
    (run / "segments.jsonl").write_text(lines)
    with (run / "log.txt").open("a") as file:
        file.write("Warning: look out\n")
    found = read_status(run)
    assert found["silent_for"] == pytest.approx(1000, abs=60)
    assert "running, but silent for 1" in "\n".join(page(found))
    assert found["warnings"] == ["Warning: look out"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_killed_run_of_this_machine_is_lost(stopped, tmp_path, moved):
    """Of one on another machine only its silence tells."""
    run = tmp_path / "run"
    shutil.copytree(stopped[0], run)
    lines = (run / "segments.jsonl").read_text().replace('"done"', '"running"')
    (run / "segments.jsonl").write_text(lines)
    (path,) = run.glob("claim-*.json")
    holder = json.loads(path.read_text())
    assert read_status(run)["state"] == "running"  # the claim is free
    gone = {"free": False, "since": "1"} | ({"machine": "another"} if moved else {})
    path.write_text(json.dumps(holder | gone))
    assert read_status(run)["state"] == ("running" if moved else "lost: its process is gone")


def test_200_runs_in_less_than_a_second(stopped, tmp_path):
    for number in range(200):
        run = tmp_path / f"{number:05d}-basic"
        shutil.copytree(stopped[0], run, copy_function=os.link)
    (tmp_path / "no-run").mkdir()
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        command = [sys.executable, "-m", "gan_mpi", "status", tmp_path]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - begin)
    lines = done.stdout.splitlines()
    assert len(lines) == 200
    assert all(line.endswith("  done") for line in lines)
    assert min(seconds) < 1.0, seconds


def test_watch_ends_with_the_run(stopped):
    result = status(stopped[0], "--watch")
    assert result.exception is None
    assert "state      done" in result.output


def test_what_is_watched_holds_no_control_characters():
    assert _shown(["run \x1b[31mred\x1b[0m", "b"]).plain == "run \\x1b[31mred\\x1b[0m\nb"


def test_what_is_no_run_is_said(tmp_path):
    result = status(tmp_path)
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == f"{tmp_path} is not a run directory, and holds none."
    (tmp_path / "config.json").write_text("{")
    said = str(status(tmp_path).exception)
    again = f"gan-mpi train --resume {tmp_path} writes it anew"
    assert said == f"{tmp_path / 'config.json'} is damaged, or not a run's."
    (tmp_path / "checkpoint-000001.pt").touch()
    assert str(status(tmp_path).exception) == f"{tmp_path / 'config.json'} is damaged; {again}."
    assert status(os.devnull, "--watch", "--json").exception.exit_code == 2
