"""Several hosts, made of namespaces with an sshd each: tests/cluster/hosts.sh."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import HERE, IS_MPICH, MPIEXEC, cluster_script, environment
from test_claim import QUICK, trains, wait_for
from test_resume import apart, last_state

import gan_mpi
from gan_mpi.runs.places import last_word
from gan_mpi.runs.segments import read_segments

pytestmark = pytest.mark.cluster
LAUNCH = HERE.parent / "launch" / "hostfile.sh"
PACKAGE = Path(gan_mpi.__file__).parent
CLAIMED = ("train", "--glyphs", "64", "--batch", "16", "--checkpoint-every", "200")
STEPS = 4
UPDATES = 3 * STEPS
TRAIN = ("--precision", "fp64", "--batch", "64", "--steps", str(STEPS))
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class Hosts:
    """Three hosts h1, h2, h3; commands are called on h1."""

    def __init__(self, base):
        self.base = base
        ssh = f"{base}/ssh"
        agents = {"HYDRA_LAUNCHER_EXEC": ssh, "PRTE_MCA_plm_ssh_agent": ssh}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {**environment(), **agents, "PATH": path}

    def call(self, *command, folder, **variables):
        return subprocess.run(
            [
                HERE / "cluster" / "hosts.sh",
                "exec",
                self.base,
                "h1",
                *map(str, command),
            ],
            cwd=folder,
            env={**self.env, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def on(self, host, *command):
        """Call a command on a host."""
        cluster_script("hosts.sh", "exec", self.base, host, *command)

    @contextlib.contextmanager
    def started(self, host, *arguments, folder):
        """Start gan-mpi on a host; it is ended with the block."""
        program = [sys.executable, "-c", QUICK, *arguments]
        process = subprocess.Popen(
            [HERE / "cluster" / "hosts.sh", "exec", self.base, host, *program],
            cwd=folder,
            env={**self.env, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def sent(self, host):
        return int(cluster_script("hosts.sh", "bytes", self.base, host))

    def doctor(self, folder, *second, run_dir=None):
        """Run it on h1 and h2, a rank each; `second` comes before the program on h2."""
        program = [
            sys.executable,
            "-m",
            "gan_mpi",
            "doctor",
            "--run-dir",
            run_dir or folder,
        ]
        one, two = ["-n", "1", "--host", "h1"], ["-n", "1", "--host", "h2"]
        if IS_MPICH:  # whose hosts hold for all programs
            one, two = ["-hosts", "h1,h2", "-ppn", "1", "-n", "1"], ["-n", "1"]
        command = [*MPIEXEC, *one, *program, ":", *two, *second, *program]
        done = self.call(*command, folder=folder)
        found = [text for text in done.stdout.splitlines() if text.startswith("found: ")]
        assert done.returncode == bool(found), done.stdout + done.stderr
        assert "rank  host" in done.stdout, done.stderr
        return found


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    base = tmp_path_factory.mktemp("hosts")
    try:
        cluster_script("hosts.sh", "up", base, 3)
        yield Hosts(base)
    finally:
        cluster_script("hosts.sh", "down", base)


def test_what_is_hidden_between_hosts_changes_no_bit(hosts, mnist, tmp_path):
    (tmp_path / "hosts.txt").write_text("h1\nh2\n")
    states, said = [], []
    for name, more in (("hidden", ()), ("waiting", ("--no-overlap",))):
        options = ("--datadir", mnist, "--run-dir", tmp_path / name, "--steps", "12", *more)
        done = hosts.call(LAUNCH, *options, folder=tmp_path, RANKS="2")
        assert done.returncode == 0, done.stdout + done.stderr
        states.append(last_state(tmp_path / name))
        said.append("next update begins while gradients are summed" in done.stdout)
        assert bool(re.search(r"comm \d+%\+\d+%", done.stdout)) == said[-1]
    assert said == [True, False]
    assert apart(*states) == 0


@pytest.fixture(scope="module")
def on_one_rank(mnist, tmp_path_factory):
    """The state after STEPS steps on one rank of this host."""
    folder = tmp_path_factory.mktemp("one")
    train = [sys.executable, "-m", "gan_mpi", "train", "--datadir", mnist, *TRAIN]
    subprocess.run([*train, "--run-dir", folder / "run"], check=True, capture_output=True)
    return last_state(folder / "run")


@pytest.mark.parametrize("count", [2, 3])
def test_training_over_ssh_is_training_on_one_host(hosts, on_one_rank, mnist, tmp_path, count):
    """Gradients cross the links, and the data do not: each host reads its own."""
    names = [f"h{n}" for n in range(1, count + 1)]
    (tmp_path / "hosts.txt").write_text("".join(f"{name}\n" for name in names))
    before = {name: hosts.sent(name) for name in names}
    options = ("--datadir", mnist, "--run-dir", tmp_path / "run", *TRAIN)
    done = hosts.call(LAUNCH, *options, folder=tmp_path, RANKS=str(2 * count))
    assert done.returncode == 0, done.stdout + done.stderr
    sent = {name: hosts.sent(name) - before[name] for name in names}
    (segment,) = read_segments(tmp_path / "run")
    assert (segment["hosts"], segment["ranks"]) == (names, 2 * count)
    state = last_state(tmp_path / "run")
    gap = apart(state, on_one_rank)
    print(f"{count} hosts: {gap:.1e} apart, {sent} bytes sent")
    assert gap < 1e-9
    gradients = min(weights(state, "G"), weights(state, "D")) * 8 * UPDATES
    for name in names:
        assert sent[name] > gradients / 2, "hardly any gradient left this host"
        assert sent[name] < 4 * gradients + 60_000 * 784 / 4, "the data crossed a link"


def weights(state, player):
    return sum(value.numel() for name, value in state.items() if name.startswith(f".{player}."))


def starts(run):
    """Return how many starts of a run have come to their first step."""
    log = run / "log.txt"
    return log.read_text().count("started in ") if log.exists() else 0


def test_a_link_that_is_down_is_named_and_ends_the_job(hosts, tmp_path):
    """Both hosts see the run directory, and MPI waits for ever; so does Open MPI's mpiexec."""
    supervise = [sys.executable, "-m", "gan_mpi", "supervise", "--max-restarts", "0", "--"]
    launch = [LAUNCH] if IS_MPICH else [*supervise, LAUNCH]
    (tmp_path / "hosts.txt").write_text("h1\nh2\n")
    options = (
        "--glyphs",
        "64",
        "--batch",
        "16",
        "--steps",
        "5000",
        "--run-dir",
        tmp_path / "run",
    )
    job = ThreadPoolExecutor().submit(
        lambda: hosts.call(*launch, *options, "--hang-timeout", "4", folder=tmp_path, RANKS="2")
    )
    wait_for(lambda: starts(tmp_path / "run") == 1 or job.done())
    assert not job.done(), job.result()
    cluster_script("hosts.sh", "link", hosts.base, "h2", "down")
    began = time.monotonic()
    try:
        wait_for(lambda: last_word(tmp_path / "run"))
        said_after = time.monotonic() - began
        done = job.result(30)
        ended_after = time.monotonic() - began
    finally:
        cluster_script("hosts.sh", "link", hosts.base, "h2", "up")
    print(f"named after {said_after:.1f} s, ended after {ended_after:.1f} s")
    assert "the network between h1 and h2 may be down" in done.stderr, done.stderr
    assert done.returncode == 77
    assert said_after < ended_after < 4 + 5


def test_a_training_goes_on_without_a_host_that_is_gone(hosts, tmp_path):
    """The link to h2 goes down; what hangs is ended, and the next start has h1 alone."""
    run, where = tmp_path / "run", tmp_path / "hosts.txt"
    where.write_text("h1\nh2\n")
    ranks = ["-n", "{ranks}", *(["-f"] if IS_MPICH else ["--map-by", "node", "--hostfile"])]
    ranks.append("{hosts}")
    train = [sys.executable, "-m", "gan_mpi", *CLAIMED, "--steps", "5000"]
    train += ["--hang-timeout", "4", "--run-dir", run]
    supervise = [sys.executable, "-m", "gan_mpi", "supervise", "--hostfile", where, "--"]
    job = ThreadPoolExecutor().submit(
        lambda: hosts.call(*supervise, *MPIEXEC, *ranks, *train, folder=tmp_path)
    )
    wait_for(lambda: starts(run) == 1 or job.done())
    assert not job.done(), job.result()
    cluster_script("hosts.sh", "link", hosts.base, "h2", "down")
    began = time.monotonic()
    try:
        wait_for(lambda: starts(run) == 2)
        print(f"it trains again after {time.monotonic() - began:.0f} s")
        (run / "STOP").touch()
        done = job.result(60)
    finally:
        cluster_script("hosts.sh", "link", hosts.base, "h2", "up")
    assert done.returncode == 75, done.stderr
    assert f"h2 of {where} does not answer, and is left out" in done.stderr
    assert "restart 1 of 3, from step " in done.stderr
    assert [each["ranks"] for each in read_segments(run)] == [2, 1]
    assert [each["hosts"] for each in read_segments(run)] == [["h1", "h2"], ["h1"]]


def test_doctor_finds_nothing_on_sound_hosts(hosts, tmp_path):
    assert hosts.doctor(tmp_path) == []


def test_doctor_finds_a_run_directory_that_each_host_has_to_itself(hosts, tmp_path):
    (found,) = hosts.doctor(tmp_path, run_dir="/run/tmp/run")
    assert "h2 does not see what rank 0 writes in /run/tmp; put the run on a" in found


def test_doctor_finds_a_host_with_another_version(hosts, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "old" / "gan_mpi")
    with (tmp_path / "old" / "gan_mpi" / "__init__.py").open("a") as file:
        file.write('__version__ = "0.0.9"\n')
    (found,) = hosts.doctor(tmp_path, "env", f"PYTHONPATH={tmp_path / 'old'}")
    assert "rank 1 on h2 has gan-mpi 0.0.9, and rank 0 gan-mpi " in found


def test_doctor_finds_a_host_whose_clock_is_wrong(hosts, tmp_path):
    cluster_script("faketime.sh")
    late = ("FAKETIME=-90s", f"LD_PRELOAD={FAKETIME}")
    (found,) = hosts.doctor(tmp_path, "env", *late)
    seconds = re.search(r"the clock of h2 is ([\d.]+) s behind rank 0's", found)[1]
    assert float(seconds) == pytest.approx(90, abs=2)


def holder(run):
    """Return the process that holds a run, as its own host numbers it."""
    (path,) = run.glob("claim-*.json")
    return json.loads(path.read_text())["process"]


def test_two_hosts_take_a_run_from_each_other_and_harm_nothing(hosts, tmp_path):
    """A second start is refused; a suspended one is replaced; a killed one is too, within 60 s."""
    run, train = tmp_path / "run", (*CLAIMED, "--steps", "20000", "--run-dir", "run")
    with contextlib.ExitStack() as stack:

        def start(host):
            return stack.enter_context(hosts.started(host, *train, folder=tmp_path))

        first = start("h1")
        wait_for(lambda: trains(run))
        refused = start("h2")
        _, said = refused.communicate(timeout=60)
        assert refused.returncode == 2, said
        assert "run is being trained by another start (process " in said and " on h1)" in said
        hosts.on("h1", "kill", "-STOP", holder(run))
        suspended = holder(run)
        second = start("h2")
        wait_for(lambda: (run / "claim-000002.json").exists() and len(read_segments(run)) == 2)
        hosts.on("h1", "kill", "-CONT", suspended)
        os.killpg(first.pid, signal.SIGCONT)  # nsenter stops with its child
        _, said = first.communicate(timeout=60)
        assert first.returncode == 1 and said.count("Error: ") == 1, said
        assert "another start has taken run while this one stood still" in said
        wait_for(lambda: read_segments(run)[1]["state"] == "running")
        hosts.on("h2", "kill", "-KILL", holder(run))
        second.wait(60)
        third, began = start("h1"), time.monotonic()
        wait_for(
            lambda: len(read_segments(run)) == 3 and read_segments(run)[2]["state"] == "running"
        )
        assert time.monotonic() - began < 60
        hosts.on("h1", "kill", "-USR1", holder(run))
        assert third.wait(60) == 75
    states = [(each["id"], each["state"]) for each in read_segments(run)]
    assert states == [(1, "lost"), (2, "lost"), (3, "stopped (SIGUSR1)")]
    steps = [json.loads(line)["step"] for line in (run / "stats.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    last_state(run)
