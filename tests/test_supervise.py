"""A job that was lost starts again; one that ended otherwise gives its code."""

import signal
import subprocess
import sys

import pytest
from conftest import IS_MPICH, MPIEXEC
from test_claim import trains, wait_for

from gan_mpi.errors import UserError
from gan_mpi.lifecycle import hosts, supervisor
from gan_mpi.lifecycle.hosts import Hosts
from gan_mpi.lifecycle.supervisor import Supervisor, run_dir_of
from gan_mpi.runs.segments import read_segments

# What stands for mpiexec: each start takes the next word, begins a segment, and does it.
JOB = """
import json, os, pathlib, signal, sys, time
run = pathlib.Path(sys.argv[-1])
plan = run.parent / "plan"
now, *left = plan.read_text().split()
plan.write_text(" ".join(left))
def begin(state):
    run.mkdir(exist_ok=True)
    about = {"id": 1, "date": "x", "first_step": 1, "ranks": 1, "hosts": [], "devices": []}
    with (run / "segments.jsonl").open("a") as file:
        file.write(json.dumps({**about, "versions": {}, "state": state}) + "\\n")
def say(code):
    pathlib.Path(os.environ["GAN_MPI_OUTCOME"]).write_text(str(code))
if now == "nothing":
    sys.exit(255)
begin("done" if now == "late" else "running")
if now in ("kill", "late"):
    os.kill(os.getpid(), signal.SIGKILL)
if now.startswith("lost"):
    sys.exit(int(now[4:]))
if now == "stays":
    say(0)
    time.sleep(60)
said, _, leaves = now.partition("/")
say(said)
sys.exit(int(leaves or said))
"""


@pytest.fixture
def supervise(tmp_path, monkeypatch):
    """Supervise starts that do one thing after the other; return the code and what was said."""
    monkeypatch.setattr(supervisor, "FORWARDED", ())
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(supervisor, "LOOK", 0.01)

    def run(*plan, restarts=3):
        (tmp_path / "plan").write_text(" ".join(plan))
        said, run_dir = [], tmp_path / "run"
        command = [sys.executable, "-SEc", JOB, "--run-dir", str(run_dir)]
        code = Supervisor(command, run_dir, restarts, said.append).run()
        assert (tmp_path / "plan").read_text() == "", "all of it was done"
        assert not [*tmp_path.glob(".*")], "nothing is left"
        return code, said

    return run


@pytest.mark.parametrize("code", [0, 1, 2, 64, 75, 76])
def test_what_would_happen_again_is_not_tried_again(supervise, code):
    assert supervise(str(code)) == (code, [])


def test_what_the_ranks_say_counts_and_not_the_code_of_mpiexec(supervise):
    assert supervise("75/9") == (75, [])
    assert supervise("0/137") == (0, [])


def test_a_lost_job_starts_again(supervise):
    code, said = supervise("kill", "lost137", "lost11", "0")
    assert code == 0
    assert [each.split(";")[0] for each in said] == [
        "the job ended by SIGKILL, for want of memory perhaps",
        "the job ended by SIGKILL, for want of memory perhaps",
        "the job ended by SIGSEGV",
    ]
    assert [each.split("; ")[1] for each in said] == [f"restart {n} of 3" for n in (1, 2, 3)]


def test_a_hang_is_tried_again_and_gives_its_code_in_the_end(supervise):
    assert supervise("77", "0")[0] == 0
    with pytest.raises(UserError, match="it was started 2 times") as caught:
        supervise("77", "77", restarts=1)
    assert caught.value.exit_code == 77


def test_a_job_that_is_lost_too_often_could_not(supervise):
    with pytest.raises(UserError, match="ended with 255; it was started 2 times") as caught:
        supervise("lost255", "lost255", restarts=1)
    assert caught.value.exit_code == 1


def test_a_job_that_never_began_is_not_tried_again(supervise):
    with pytest.raises(UserError, match="ended with 255 before a training began"):
        supervise("nothing")


def test_a_restart_that_fails_at_once_is_one_of_several(supervise):
    code, said = supervise("kill", "nothing", "nothing", "0")
    assert code == 0 and len(said) == 3
    assert said[1].startswith("the job ended with 255; restart 2 of 3")


@pytest.mark.parametrize("code", [2, 64, 75, 76])
def test_ranks_that_were_not_told_of_the_file_end_with_their_code(supervise, code):
    assert supervise(f"lost{code}") == (code, [])
    assert supervise("lost77", "lost1", "0")[0] == 0


def test_a_rank_that_is_lost_after_the_end_changes_nothing(supervise):
    assert supervise("late") == (0, [])


def test_a_launcher_that_hangs_at_its_end_is_ended(supervise, monkeypatch):
    monkeypatch.setattr(supervisor, "ENDING", 0.3)
    code, said = supervise("stays")
    assert code == 0
    assert "does not end, though its ranks have; it is ended" in said[0]


@pytest.mark.parametrize(
    ("words", "run_dir"),
    [
        ("mpiexec -n 2 gan-mpi train --run-dir a/b --steps 3", "a/b"),
        ("srun gan-mpi train --run-dir=c", "c"),
        ("gan-mpi train --resume tests", "tests"),
    ],
)
def test_which_run_is_meant(words, run_dir, monkeypatch, tmp_path):
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    assert str(run_dir_of(words.split())) == run_dir


def test_what_does_not_go_on_by_itself_is_refused(gan_mpi):
    done = gan_mpi("supervise", "--", "mpiexec", "-n", 2, "gan-mpi", "train", "--resume", 7)
    assert done.returncode == 2
    assert "give gan-mpi train a --run-dir, or a --resume that names a folder." in done.stderr
    done = gan_mpi("supervise", "--", "no-such-mpiexec", "--run-dir", "run")
    assert done.returncode == 2
    assert "cannot start no-such-mpiexec: No such file or directory." in done.stderr
    done = gan_mpi("supervise", "--", "mpiexec", "--run-dir", "run", size=2)
    assert done.returncode == 2 and "supervise starts mpiexec, and is not started" in done.stderr


TRAIN = ("--glyphs", 50, "--batch", 30, "--checkpoint-every", 5, "--run-dir", "run")


def command(*options):
    return [
        "supervise",
        "--",
        *MPIEXEC,
        "-n",
        2,
        sys.executable,
        "-m",
        "gan_mpi",
        "train",
        *options,
    ]


@pytest.mark.launch
@pytest.mark.slow
def test_a_killed_rank_costs_a_restart(launch, tmp_path):
    options = (*TRAIN, "--steps", 40, "--inject", "rank=1,step=23,kind=kill")
    done = launch(*command(*options), timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("restart 1 of 3, from step ") == 1
    assert "last heard of rank 1 on " in done.stderr
    assert ("SIGKILL" in done.stderr) or not IS_MPICH
    assert [segment["state"] for segment in read_segments(tmp_path / "run")] == ["lost", "done"]


@pytest.mark.launch
@pytest.mark.slow
def test_a_stop_is_handed_on(start, tmp_path):
    process = start(*command(*TRAIN, "--steps", 4000))
    wait_for(lambda: trains(tmp_path / "run"))
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert "stopped after" in out and "restart" not in err


def test_a_stop_before_the_job_is_known_reaches_it(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "FORWARDED", ())
    command = [sys.executable, "-SEc", "import time; time.sleep(30)"]
    asked = Supervisor(command, tmp_path / "run", 3, lambda _: None, stopping="SIGTERM")
    assert asked.run() == 1, "without a checkpoint"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint-000003.pt").touch()
    assert asked.run() == 75


def test_what_nohup_has_ignored_stays_so(tmp_path):
    """Python, which stands for nohup, ignores SIGHUP; mpiexec says what it has."""
    says = "import signal; raise SystemExit(75 if signal.getsignal(1) == signal.SIG_IGN else 76)"
    begin = "import signal, os; signal.signal(1, signal.SIG_IGN); os.execv({0!r}, {1!r})"
    supervise = [sys.executable, "-m", "gan_mpi", "supervise", "--", sys.executable, "-c", says]
    begin = begin.format(sys.executable, [*supervise, "--run-dir", str(tmp_path / "run")])
    assert subprocess.run([sys.executable, "-c", begin], check=False).returncode == 75


@pytest.mark.launch
@pytest.mark.slow
def test_a_supervisor_that_is_killed_takes_the_job_with_it(start, tmp_path):
    process = start(*command(*TRAIN[:-1], tmp_path / "run", "--steps", 4000))
    wait_for(lambda: trains(tmp_path / "run"))
    find = ["pgrep", "-f", f"train .*{tmp_path}"]
    assert len(subprocess.run(find, check=True, capture_output=True).stdout.split()) >= 3
    process.kill()
    wait_for(lambda: not subprocess.run(find, check=False, capture_output=True).stdout)


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """What stands for ssh reaches hosts whose names begin with up."""
    script = tmp_path / "ssh"
    script.write_text('#!/bin/sh\ncase "$3" in up*) exit 0 ;; slow*) sleep 9 ;; esac\nexit 255\n')
    script.chmod(0o755)
    monkeypatch.setenv("HYDRA_LAUNCHER_EXEC", str(script))
    monkeypatch.setattr(hosts, "PATIENCE", 0.5)


def test_hosts_that_do_not_answer_are_left_out(ssh, tmp_path):
    file, said = tmp_path / "hosts.txt", []
    file.write_text("up1 slots=4  # the first\ndown2\n\nup3:4\nslow4\nlocalhost\n")
    beside = tmp_path / "there" / "hosts"
    words = ["mpiexec", "-n", "{ranks}", "--hostfile={hosts}", "train"]
    filled = Hosts(file, 4, said.append).fill(words, beside)
    assert filled == ["mpiexec", "-n", "12", f"--hostfile={beside}", "train"]
    assert beside.read_text() == "up1 slots=4\nup3:4\nlocalhost\n"
    assert said == [f"down2, slow4 of {file} does not answer, and is left out"]


@pytest.mark.parametrize(
    ("content", "said", "code"),
    [
        ("down1\ndown2\n", "none of the 2 hosts of {} answers.", 1),
        ("# none\n\n", "{} names no host.", 2),
        (None, "cannot read {}: No such file or directory.", 2),
    ],
)
def test_without_hosts_nothing_starts(ssh, tmp_path, content, said, code):
    file = tmp_path / "hosts.txt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError) as caught:
        Hosts(file, 1, pytest.fail).fill(["{ranks}"], tmp_path / "beside")
    assert str(caught.value) == f"--hostfile: {said.format(file)}"
    assert caught.value.exit_code == code


@pytest.mark.parametrize("words", ["mpiexec -n 4 -f {hosts}", "mpiexec -n {ranks}"])
def test_a_command_without_a_place_for_hosts_is_refused(gan_mpi, words):
    options = ("supervise", "--hostfile", "hosts.txt", "--", *words.split())
    done = gan_mpi(*options, "gan-mpi", "train", "--run-dir", "run")
    assert done.returncode == 2 and "--hostfile: the command has no {" in done.stderr
