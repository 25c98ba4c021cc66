"""Jobs on a private Slurm of four nodes, started from nothing: tests/cluster/slurm.sh."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import HERE, IS_MPICH, cluster_script, environment
from test_resume import assert_same_bits, last_state

from gan_mpi.runs.segments import read_segments

pytestmark = pytest.mark.cluster
TOP = Path(__file__).parents[1]
LAUNCH = TOP / "launch"
SMALL = ("--glyphs", "100", "--batch", "60", "--latent-dim", "8")
STEPS = 400
MPI = "mpich" if IS_MPICH else "openmpi"
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}


class Slurm:
    """The commands of a private Slurm, called in one folder."""

    def __init__(self, base, folder):
        self.folder, self.logs = folder, base / "log"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {**environment(), "SLURM_CONF": f"{base}/slurm.conf", "PATH": path}
        (folder / "venv").symlink_to(sys.prefix)

    def __call__(self, *command):
        done = subprocess.run(
            list(map(str, command)),
            cwd=self.folder,
            env=self.env,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, *command):
        return int(re.search(r"Submitted batch job (\d+)", self(*command))[1])

    def about(self, job):
        words = re.findall(r"(\w+)=(\S*)", self("scontrol", "show", "job", "-o", job))
        return dict(words)

    def output(self, job):
        path = self.folder / f"slurm-{job}.out"
        return path.read_text() if path.exists() else ""

    def wait(self, job, timeout=180):
        """Return the exit code of a job that has ended."""
        deadline = time.monotonic() + timeout
        while (about := self.about(job))["JobState"] not in ENDED:
            assert time.monotonic() < deadline, (about, self.output(job))
            time.sleep(0.3)
        assert about["JobState"] in ("COMPLETED", "FAILED"), (about, self.output(job))
        return int(about["ExitCode"].split(":")[0])

    def ends(self, job, code, timeout=180):
        """Wait for a job's end with this exit code; show what it and Slurm said of another."""
        assert self.wait(job, timeout) == code, f"{self.output(job)}\n{self.said_of(job)}"

    def said_of(self, job):
        """Return the lines about a job in the logs of the nodes."""
        logs = [path.read_text(errors="replace") for path in self.logs.glob("slurmd-*.log")]
        of_job = re.compile(rf"(?m)^.*\b(?:JobId|StepId|job|step)[= ]{job}\b.*$")
        return "\n".join(line for log in logs for line in of_job.findall(log))

    def wait_until_it_trains(self, job, after=0):
        deadline = time.monotonic() + 120  # four ranks of two tasks begin on two cores
        while self.output(job).count("\nstep ") <= after:
            assert time.monotonic() < deadline, self.output(job)
            time.sleep(0.1)

    def resubmitted(self, job):
        return int(re.findall(r"Submitted batch job (\d+)", self.output(job))[-1])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    try:
        cluster_script("slurm.sh", "up", folder, 4, 2)
        yield folder
    finally:
        cluster_script("slurm.sh", "down", folder)


@pytest.fixture
def slurm(base, tmp_path):
    return Slurm(base, tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(base, tmp_path_factory):
    """The last state of STEPS steps on 2 nodes of a rank each, in one job."""
    slurm = Slurm(base, tmp_path_factory.mktemp("whole"))
    train = ("train", "--run-dir", "run", *SMALL, "--steps", STEPS)
    job = submit(slurm, "10", *train)
    slurm.ends(job, 0)
    return last_state(slurm.folder / "run")


def submit(slurm, minutes, *command, on_node=1, more=()):
    options = ("--scheduler", "slurm", "--nodes", 2, "--ranks-per-node", on_node)
    options += ("--time", minutes, "--venv", "venv", "--mpi", MPI, "--submit", *more)
    jobscript = (sys.executable, "-m", "gan_mpi", "jobscript")
    return slurm.submit(*jobscript, *options, "--", *command)


def run_of(slurm, minutes="10", steps=STEPS, more=(), on_node=1):
    command = ("train", "--run-dir", "run", *SMALL, "--steps", steps, *more)
    return submit(slurm, minutes, *command, on_node=on_node)


@pytest.mark.parametrize("script", ["slurm.sbatch", "slurm-mpiexec.sbatch"])
def test_a_launch_script_trains_on_two_nodes(slurm, base, script):
    text = (LAUNCH / script).read_text()
    if not IS_MPICH:
        text = text.replace("--mpi=pmi2", "--mpi=pmix")
        text = text.replace("-bind-to core:1", "--bind-to none")
    (slurm.folder / script).write_text(text)
    job = slurm.submit("sbatch", "--ntasks-per-node=2", script, *SMALL, "--steps", 3)
    slurm.ends(job, 0)
    assert slurm.about(job)["NumNodes"] == "2"
    log = (base / "log" / "slurmd-n2.log").read_text()
    assert f"StepId={job}.0" in log, "the second node had no part in it"
    (segment,) = read_segments(slurm.folder / "runs" / "mine")
    assert (segment["ranks"], segment["state"]) == (4, "done")


@pytest.mark.parametrize("launcher", ["srun", "mpiexec"])
def test_doctor_finds_nothing_in_a_sound_job(slurm, launcher):
    """Among others, that the signal of `scancel` or of the batch script arrives."""
    kind = "pmi2" if IS_MPICH else "pmix"
    srun = ("srun", "-N2", "-n4", f"--mpi={kind}")
    allocated = ("salloc", "-N2", "-n4", "mpiexec", "-n", 4)
    launch = srun if launcher == "srun" else allocated
    output = slurm(*launch, sys.executable, "-m", "gan_mpi", "doctor")
    assert "found nothing wrong, in " in output
    assert "SIGUSR1: arrives at all ranks" in output


def test_slurm_itself_understands_every_directive(slurm):
    """But for what this small Slurm does not have: GPUs, features, accounting."""
    text = (HERE / "golden" / "everything.slurm").read_text()
    text = re.sub(r"#SBATCH (--(gpus|constr|qos|parti|ntasks|cpus).*|one more)\n", "", text)
    (slurm.folder / "job").write_text(text)
    slurm("sbatch", "--test-only", "job")


def test_a_job_stops_in_time_and_submits_itself_until_the_run_is_done(slurm):
    """On two nodes of two ranks, with the same model, to the bit, as one job without a limit.

    Only the interrupted one saves often, so that it takes longer than a job may.
    """
    slow = ("--checkpoint-every", 1)
    slurm.ends(run_of(slurm, steps=50, more=slow, on_node=2), 0)
    (trial,) = read_segments(slurm.folder / "run")
    slurm("rm", "-r", "run")
    per_step = (trial["seconds"] - trial["seconds_to_start"]) / 50
    steps = int(55 / per_step)  # of the minute that it may, Slurm takes some
    jobs = [run_of(slurm, "1", steps, slow, on_node=2)]
    while slurm.wait(jobs[-1]) == 75:
        jobs.append(slurm.resubmitted(jobs[-1]))
    assert len(jobs) >= 2, "the run fitted in one job"
    segments = read_segments(slurm.folder / "run")
    early = [segment["state"] for segment in segments[:-1]]
    assert early == ["stopped (Slurm's time limit)"] * (len(jobs) - 1)
    assert segments[-1]["state"] == "done"
    assert sum(segment["images"] for segment in segments) == 2 * 60 * steps
    interrupted = last_state(slurm.folder / "run")
    slurm("mv", "run", "interrupted")
    slurm.ends(run_of(slurm, "30", steps, on_node=2), 0, 300)
    assert_same_bits(interrupted, last_state(slurm.folder / "run"))


@pytest.mark.parametrize("to", ["--batch", "--full"], ids=["batch shell", "ranks"])
def test_a_signal_in_the_middle_loses_nothing(slurm, uninterrupted, to):
    job = run_of(slurm)
    slurm.wait_until_it_trains(job)
    slurm("scancel", "--signal=USR1", to, job)
    slurm.ends(job, 75)
    again = slurm.resubmitted(job)
    slurm.ends(again, 0)
    assert len(read_segments(slurm.folder / "run")) == 2
    assert_same_bits(uninterrupted, last_state(slurm.folder / "run"))


def test_a_requeued_job_goes_on(slurm, uninterrupted):
    job = run_of(slurm)
    slurm.wait_until_it_trains(job)
    slurm("scontrol", "requeue", job)
    deadline = time.monotonic() + 60
    while slurm.about(job)["JobState"] != "PENDING":
        assert time.monotonic() < deadline, slurm.about(job)
        time.sleep(0.2)
    slurm("scontrol", "update", f"jobid={job}", "StartTime=now")
    slurm.ends(job, 0)
    assert slurm.about(job)["Restarts"] == "1"
    assert_same_bits(uninterrupted, last_state(slurm.folder / "run"))


def test_the_tasks_of_an_array_stop_and_submit_themselves_alone(slurm, uninterrupted):
    """Two tasks on two nodes each, of which each has a run of its own, and one successor."""
    train = ("train", "--run-dir", "run-$SLURM_ARRAY_TASK_ID", *SMALL, "--steps", STEPS)
    job = submit(slurm, "10", *train, more=("--directive", "--array=0-1"))
    tasks = [f"{job}_{number}" for number in range(2)]
    for task in tasks:
        slurm.wait_until_it_trains(task)
    slurm("scancel", "--signal=USR1", "--batch", job)
    for number, task in enumerate(tasks):
        slurm.ends(task, 75)
        again = f"{slurm.resubmitted(task)}_{number}"
        slurm.ends(again, 0)
        assert len(read_segments(slurm.folder / f"run-{number}")) == 2
        assert_same_bits(uninterrupted, last_state(slurm.folder / f"run-{number}"))
    logs = sorted(path.name for path in slurm.folder.glob("slurm-*.out"))
    assert len(logs) == 4, "a task submitted more than its own successor"
    assert sorted(path.name for path in slurm.folder.glob("run-*")) == ["run-0", "run-1"]


def test_a_requeue_waits_while_the_old_job_saves_and_another_job_is_refused(slurm):
    """As when a node is given up that is still at work: both are the same job to Slurm."""
    program = f"{sys.executable} -m gan_mpi train"
    new = [*map(str, (*SMALL, "--run-dir", "run", "--steps", 10_000))]
    job = slurm.submit("sbatch", "-N1", "-n1", "--wrap", " ".join(["exec", program, *new]))
    slurm.wait_until_it_trains(job)
    other = slurm.submit("sbatch", "-N1", "-n1", "--wrap", f"{program} --resume run")
    slurm.ends(other, 2)
    assert "run is being trained by another start (process " in slurm.output(other)
    assert f", job {job} of Slurm); wait for its end" in slurm.output(other)
    again = f"SLURM_JOB_ID={job} exec {program} --resume run"
    requeued = slurm.submit("sbatch", "-N1", "-n1", "--wrap", again)
    deadline = time.monotonic() + 60
    while "run is held by an older start of this job; waits" not in slurm.output(requeued):
        assert time.monotonic() < deadline, slurm.output(requeued)
        time.sleep(0.2)
    slurm("scancel", "--signal=TERM", "--batch", job)
    slurm.ends(job, 75)
    slurm.wait_until_it_trains(requeued)
    slurm("scancel", "--signal=TERM", "--batch", requeued)
    slurm.ends(requeued, 75)
    first, second = read_segments(slurm.folder / "run")
    assert first["state"] == second["state"] == "stopped (SIGTERM)"
    assert second["first_step"] == first["last_step"] + 1, "nothing was lost"
