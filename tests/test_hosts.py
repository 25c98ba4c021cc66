"""Several hosts, made of namespaces with an sshd each: tests/cluster/hosts.sh."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HERE, IS_MPICH, MPIEXEC, cluster_script, environment
from test_resume import apart, last_state

import gan_mpi
from gan_mpi.runs.segments import read_segments

pytestmark = pytest.mark.cluster
LAUNCH = HERE.parent / "launch" / "hostfile.sh"
PACKAGE = Path(gan_mpi.__file__).parent
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
