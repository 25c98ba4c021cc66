"""Batch scripts: those in launch/ are what gan-mpi jobscript prints."""

import shlex
import signal as signals
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_claim import wait_for

from gan_mpi.cli import cli
from gan_mpi.errors import UserError

TOP = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
TWO_NODES = ("--nodes", "2", "--time", "1:00:00", "--venv", "venv", "--mpi", "mpich")
EIGHT = (*TWO_NODES, "--ranks-per-node", "8")
CONTAINED = ("--time", "60", "--ranks-per-node", "8", "--container", "i", "--mpi", "mpich")
RUN = ("--", "train", "--run-dir", "runs/mine")
LAUNCH = {
    "slurm.sbatch": ("slurm", *EIGHT),
    "slurm-mpiexec.sbatch": ("slurm", "--launcher", "mpiexec", *EIGHT),
    "slurm-gpu.sbatch": (
        *("slurm", *TWO_NODES, "--ranks-per-node", "4", "--cpus-per-rank", "8"),
        *("--gpus-per-node", "4"),
    ),
    "pbs.sh": ("pbs", *EIGHT),
    "lsf.sh": ("lsf", *EIGHT),
    "flux.sh": ("flux", *EIGHT),
}
ALL = (
    *("--nodes", "3", "--ranks-per-node", "4", "--cpus-per-rank", "2"),
    *("--gpus-per-node", "4", "--time", "2-12:00:00", "--account", "a1"),
    *("--partition", "long", "--constraint", "fast", "--name", "digits"),
    *("--module", "gcc/13", "--module", "my mpi", "--container", "gan mpi.sif"),
    *("--mpi", "openmpi", "--directive", "one more"),
)
MAIL = ("--mail", "me@here")
OWN = {
    "slurm": (*MAIL, "--qos", "high"),
    "pbs": MAIL,
    "lsf": MAIL,
    "flux": (),
}
COMMAND = ("--", "train", "--run-dir", "/scratch/it's mine", "--datadir", "/data")


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch):
    """The file of the site's settings, not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "gan-mpi").mkdir()
    return tmp_path / "gan-mpi" / "jobscript.toml"


def jobscript(*arguments):
    return CliRunner().invoke(cli, ["jobscript", *arguments], standalone_mode=False)


def script(*arguments):
    result = jobscript("--scheduler", *arguments)
    assert result.exception is None, result.exception
    return result.output


@pytest.mark.parametrize("name", LAUNCH)
def test_launch_scripts_are_printed_by_the_program(name):
    assert script(*LAUNCH[name], *RUN) == (TOP / "launch" / name).read_text()


@pytest.mark.parametrize("scheduler", OWN)
def test_a_script_with_everything(scheduler, tmp_path):
    """Golden files: written down after they were read."""
    text = script(scheduler, *ALL, *OWN[scheduler], *COMMAND)
    assert text == (GOLDEN / f"everything.{scheduler}").read_text()
    path = tmp_path / "job"
    path.write_text(text)
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize("scheduler", OWN)
def test_a_job_starts_a_training_again_if_it_is_asked_to(scheduler):
    plain, again = (
        script(scheduler, *EIGHT, *options, *RUN) for options in ((), ("--max-restarts", "3"))
    )
    (line,) = [line for line in plain.splitlines() if " train " in line]
    assert again == plain.replace(line, f"gan-mpi supervise --max-restarts 3 -- {line}")


# Options that each scheduler documents: sbatch(1); OpenPBS's qsub(1B); IBM Spectrum LSF 10.1, bsub;
# flux-batch(1).
DOCUMENTED = {
    "slurm": {
        *("--job-name", "--account", "--partition", "--qos", "--constraint", "--nodes"),
        *("--ntasks-per-node", "--cpus-per-task", "--gpus-per-node", "--time"),
        *("--signal", "--open-mode", "--mail-user", "--mail-type"),
    },
    "pbs": {"-N", "-A", "-q", "-l", "-j", "-M", "-m"},
    "lsf": {
        *("-J", "-P", "-q", "-n", "-R", "-gpu", "-W", "-wa", "-wt", "-Q", "-o", "-N"),
        "-u",
    },
    "flux": {
        *("--job-name", "--bank", "--queue", "--requires", "--nodes", "--nslots"),
        *(
            "--cores-per-slot",
            "--gpus-per-slot",
            "--time-limit",
            "--signal",
            "--output",
        ),
    },
}
PREFIX = {"slurm": "#SBATCH ", "pbs": "#PBS ", "lsf": "#BSUB ", "flux": "#FLUX: "}


@pytest.mark.parametrize("scheduler", OWN)
def test_directives_are_documented_ones(scheduler):
    text, prefix = script(scheduler, *ALL, *OWN[scheduler], *COMMAND), PREFIX[scheduler]
    found = [line for line in text.splitlines() if line.startswith(prefix)]
    words = [word for line in found for word in shlex.split(line.removeprefix(prefix))]
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert options == DOCUMENTED[scheduler]


def test_values_with_blanks_are_quoted_and_a_prefix_is_not_doubled():
    words = ("--name", "my job", "--directive", "#SBATCH --exclusive", *RUN)
    text = script("slurm", *EIGHT, *words)
    assert "#SBATCH '--job-name=my job'\n" in text or "#SBATCH --job-name='my job'\n" in text
    assert text.count("#SBATCH --exclusive\n") == 1 and "#SBATCH #SBATCH" not in text


def test_a_task_of_an_array_submits_itself_alone(tmp_path):
    (tmp_path / "srun").write_text("#!/bin/sh\nexit 75\n")
    (tmp_path / "sbatch").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/log\n')
    for name in ("srun", "sbatch"):
        (tmp_path / name).chmod(0o755)
    job = tmp_path / "job"
    job.write_text(script("slurm", *EIGHT, *RUN).replace("source venv", "# source venv"))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    for more in ({"SLURM_ARRAY_TASK_ID": "3"}, {}):
        done = subprocess.run(["bash", job, "--steps", "9"], env=environment | more, check=False)
        assert done.returncode == 75
    said = (tmp_path / "log").read_text().splitlines()
    assert said == [f"--array=3 {job} --steps 9", f"{job} --steps 9"]


@pytest.mark.parametrize(
    ("scheduler", "variable"),
    [("slurm", "SLURM_ARRAY_TASK_ID"), ("pbs", "PBS_ARRAY_INDEX"), ("lsf", "LSB_JOBINDEX")],
)
def test_the_number_of_an_arrays_task_is_filled_in_and_nothing_else(scheduler, variable):
    """In single quotes on the command line, so that only the job knows it."""
    flags = ("--run-dir", "--datadir", "--transfer", "--classifier")
    of_task = (f"my runs/${variable}", f"${{{variable}}}x", f"${variable}S", "$HOME")
    words = [word for pair in zip(flags, of_task, strict=True) for word in pair]
    text = script(scheduler, *EIGHT, "--", "train", *words)
    (line,) = (line for line in text.splitlines() if " gan-mpi " in line)
    echo = "printf '%s\n' " + line.partition(" gan-mpi ")[2].removesuffix(' "$@" &')
    said = subprocess.run(
        ["bash", "-c", echo], check=False, env={variable: "7 8"}, capture_output=True, text=True
    )
    assert said.stdout.splitlines()[2::2] == ["my runs/7 8", "7 8x", f"${variable}S", "$HOME"]


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--run-dir", "runs/$SLURM_ARRAY_TASK_ID", "--seed", "${SLURM_ARRAY_TASK_ID}"),
        ("study", "--vary", "batch=32,64", "--only", "$SLURM_ARRAY_TASK_ID"),
    ],
)
def test_the_number_of_a_task_is_a_number(command):
    assert '"${SLURM_ARRAY_TASK_ID}"' in script("slurm", *EIGHT, "--", *command)


def test_what_the_job_runs_is_what_was_asked_for():
    text = script("slurm", *EIGHT, *COMMAND)
    (line,) = (line for line in text.splitlines() if line.startswith("srun "))
    words = shlex.split(line)
    assert words[words.index("gan-mpi") :] == ["gan-mpi", *COMMAND[1:], "$@", "&"]


def test_short_jobs_rely_on_the_programs_clock():
    short = ("--time", "9", "--ranks-per-node", "1", "--mpi", "mpich")
    assert "--signal" not in script("slurm", *short, *RUN)


BAD = {
    "run-dir": (("slurm", *EIGHT, "--", "train"), "give train --run-dir RUN"),
    "option": (
        ("slurm", *EIGHT, "--", "train", "--bacth", "9"),
        "No such option '--bacth'",
    ),
    "value": ((*("slurm", *EIGHT, *RUN), "--batch", "0"), "0 is not in the range 1<=x"),
    "command": (("slurm", *EIGHT, "--", "tran"), "gan-mpi has no command 'tran'"),
    "time": (("slurm", *EIGHT, "--time", "4h", *RUN), "'4h' is not like 90 (minutes)"),
    "seconds": (("slurm", *EIGHT, "--time", "0:30", *RUN), "less than a minute"),
    "both": (("slurm", *EIGHT, "--container", "i", *RUN), "exclude each other"),
    "qos": (
        ("pbs", *EIGHT, "--qos", "q", *RUN),
        "'--qos': PBS has none; name its queue",
    ),
    "mail": (
        ("flux", *EIGHT, "--mail", "m", *RUN),
        "'--mail': Flux has none; leave it out",
    ),
    "line break": (
        ("slurm", *EIGHT, "--account", "a\necho", *RUN),
        "'--account': 'a\\necho' holds a control character",
    ),
    "another's task": (
        ("slurm", *EIGHT, *RUN, "--seed", "$LSB_JOBINDEX"),
        "'$LSB_JOBINDEX' is not a whole number",
    ),
    "array": (
        ("pbs", *EIGHT, "--directive", "-J 0-3", *RUN),
        "a task of an array cannot submit itself again under PBS",
    ),
    "array in one word": (
        ("pbs", *EIGHT, "--directive", "#PBS -J0-3", *RUN),
        "a task of an array cannot submit itself again under PBS",
    ),
    "array of Torque": (
        ("pbs", *EIGHT, "--directive", "-t 0-3", *RUN),
        "a task of an array cannot submit itself again under PBS",
    ),
    "blank": (("pbs", *EIGHT, "--account", "a b", *RUN), "would not read as one word"),
    "empty": (("slurm", *EIGHT, "--account", "", *RUN), "'--account': it is empty"),
    "restarts in a container": (
        ("slurm", *CONTAINED, "--max-restarts", "3", *RUN),
        "--max-restarts wants gan-mpi beside the launcher, where --container has none",
    ),
    "restarts of a picture": (
        ("slurm", *EIGHT, "--max-restarts", "3", "--", "sample", "RUN"),
        "--max-restarts is for train, which goes on by itself",
    ),
    "gpus": (
        ("flux", *EIGHT, "--gpus-per-node", "4", *RUN),
        "cannot be shared evenly by 8",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_before_it_is_queued(case):
    arguments, said = BAD[case]
    result = jobscript("--scheduler", *arguments)
    assert said in str(
        result.exception.format_message()
        if hasattr(result.exception, "format_message")
        else result.exception
    )
    assert result.exception.exit_code == 2
    assert result.output == ""


def test_a_site_file_sets_what_every_job_needs_and_an_option_wins(site):
    site.write_text('scheduler = "slurm"\naccount = "a7"\nmodule = ["x/1", "y/2"]\ntime = 30\n')
    result = jobscript("--ranks-per-node", "2", "--mpi", "mpich", *RUN)
    assert result.exception is None, result.exception
    for line in (
        "#SBATCH --account=a7",
        "module load x/1\nmodule load y/2\nset -u",
        "--time=00:30:00",
    ):
        assert line in result.output
    other = jobscript("--account", "b", "--ranks-per-node", "2", "--mpi", "mpich", *RUN)
    assert "#SBATCH --account=b\n" in other.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acount = 1", "no option --acount; it may set scheduler, "),
        ("a = [", "jobscript.toml: "),
        ("account = 5", 'account should be a text, such as "one"'),
        ('module = "x/1"', 'module should be a list of texts, such as ["one", "other"]'),
        ("nodes = true", "nodes should be a whole number, such as 2"),
        ("nodes = 2.5", "nodes should be a whole number, such as 2"),
        ("name = {a = 1}", 'name should be a text, such as "one"'),
        ('name = "a\\nb"', "'--name': 'a\\nb' holds a control character"),
    ],
)
def test_a_wrong_site_file_is_named(site, text, said):
    site.write_text(text)
    result = jobscript("--scheduler", *LAUNCH["pbs.sh"], *RUN)
    assert isinstance(result.exception, UserError)
    assert str(site) in str(result.exception) or "--name" in said
    assert said in str(result.exception)


@pytest.mark.parametrize(
    ("signal", "left", "submits"),
    [("USR1", 3600, True), ("TERM", 3600, False), ("TERM", 60, True)],
)
def test_a_pbs_job_that_is_cancelled_saves_and_submits_nothing(tmp_path, signal, left, submits):
    """With programs in the place of mpiexec and qsub; the ranks take a moment to save.

    At its walltime, of which qstat may not tell, a job gets the same signal.
    """
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").touch()
    ranks = "trap 'sleep 0.5; exit 75' USR1; touch begun; while :; do sleep 0.1; done"
    for name, text in (("mpiexec", ranks), ("qsub", "touch submitted")):
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PBS_O_WORKDIR": str(tmp_path)}
    env |= {"PBS_NODEFILE": "nodes"}
    text = (TOP / "launch" / "pbs.sh").read_text().replace("3480", str(left - 120))
    (tmp_path / "job").write_text(text)
    job = subprocess.Popen(["bash", tmp_path / "job"], env=env)
    wait_for((tmp_path / "begun").exists)
    job.send_signal(getattr(signals, f"SIG{signal}"))
    assert job.wait(20) == 75
    assert (tmp_path / "submitted").exists() == submits


def test_submit_says_what_the_scheduler_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    submit = ("--scheduler", *LAUNCH["pbs.sh"], "--submit", *RUN)
    assert "--submit: cannot start qsub: No such file" in str(jobscript(*submit).exception)
    program = tmp_path / "qsub"
    program.write_text(f"#!/bin/sh\ncat >{tmp_path}/given\necho 12.server\n")
    program.chmod(0o755)
    assert jobscript(*submit).output == "12.server\n"
    assert (tmp_path / "given").read_text() == (TOP / "launch" / "pbs.sh").read_text()
    program.write_text("#!/bin/sh\necho 'no such queue:' >&2\necho debug >&2\nexit 3\n")
    assert "--submit: qsub refused: no such queue: debug" in str(jobscript(*submit).exception)
