"""What four schedulers are told and asked of a job: directives, launchers, the time left."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields

from gan_mpi.cluster.time_left import (
    flux_time_left,
    lsf_time_left,
    pbs_time_left,
    slurm_time_left,
)
from gan_mpi.errors import invalid_value

# Seconds before the end at which the scheduler, where it can, sends SIGUSR1.
WARNING = 120
SHORT = 600  # seconds: in a job shorter than this the program's own clock is enough


@dataclass(frozen=True)
class Job:
    """What a job asks for.  `time` is in seconds; `command` the words after gan-mpi."""

    scheduler: str
    nodes: int
    ranks_per_node: int
    time: int
    command: tuple[str, ...]
    cpus_per_rank: int = 1
    gpus_per_node: int = 0
    launcher: str = "srun"
    mpi: str = "mpich"
    name: str = "gan-mpi"
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    mail: str | None = None
    modules: tuple[str, ...] = ()
    venv: str | None = None
    container: str | None = None
    directives: tuple[str, ...] = ()
    max_restarts: int = 0  # of a training whose rank or node was lost, within the job

    def __post_init__(self) -> None:
        """Refuse what would stand in a script as something else.  Raises UserError."""
        for each in fields(self):
            value = getattr(self, each.name)
            for text in value if isinstance(value, tuple) else (value,):
                _require_one_line(each.name, text)
        if self.constraint and '"' in self.constraint:
            raise invalid_value("constraint", f"{self.constraint!r} holds a quotation mark")

    @property
    def ranks(self) -> int:
        return self.nodes * self.ranks_per_node


def _require_one_line(name: str, value: object) -> None:
    """Raise UserError for a text with a line break or another control character."""
    singular = {"modules": "module", "directives": "directive"}.get(name, name)
    if isinstance(value, str) and not value.isprintable():
        raise invalid_value(singular, f"{value!r} holds a control character, and must be one line")
    if value == "":
        raise invalid_value(singular, "it is empty; leave it out")


@dataclass(frozen=True)
class Scheduler:
    """How one scheduler is spoken to.

    `job_variables` hold the job's number in its environment, and `time_left` returns the seconds
    that a job has left, None without a limit; raises OSError, subprocess.SubprocessError or
    ValueError if the scheduler does not say.  `directives` and `launch` give the lines of a job;
    `forward` passes the pre-timeout signal on; `resubmit` is empty where a directive says that 75
    means once more.  `cancels` is the signal of a cancelled job, where its script outlives that to
    wait for the ranks.  `task` is the variable that tells an array's tasks apart, if there is one.
    """

    name: str
    job_variables: tuple[str, ...]
    time_left: Callable[[str], float | None]
    prefix: str
    submit: tuple[str, ...]
    directives: Callable[[Job], list[str | None]]
    launch: Callable[[Job], str]
    resubmit: str
    enter: str = ""
    forward: str = 'kill -USR1 "$job"'
    cancels: str = ""
    task: str = ""


def _mpiexec(job: Job, hosts: str) -> str:
    """Return the launcher line of the MPI in use; `hosts` names a file with a line a rank."""
    if job.mpi == "openmpi":
        place = f"ppr:{job.ranks_per_node}:node:PE={job.cpus_per_rank}"
        return f"mpiexec --hostfile {hosts} -n {job.ranks} --map-by {place} --bind-to core"
    place = f"-ppn {job.ranks_per_node} -bind-to core:{job.cpus_per_rank}"
    return f"mpiexec -f {hosts} -n {job.ranks} {place}"


def _mpiexec_in_slurm(job: Job) -> str:
    """Return the launcher line of an MPI that asks Slurm where its ranks go."""
    if job.mpi == "openmpi":
        place = f"--map-by slot:PE={job.cpus_per_rank} --bind-to core"
    else:
        place = f"-bind-to core:{job.cpus_per_rank}"
    return f'mpiexec -n "$SLURM_NTASKS" {place}'


def _only(value: str | None, form: str) -> str | None:
    """Return a directive with a value, quoted if it must be; None without a value."""
    return None if value is None else form.format(shlex.quote(value))


def _warning(job: Job, directive: str) -> str | None:
    return directive if job.time >= SHORT else None


def _refuse(job: Job, scheduler: str, **instead: str) -> None:
    for name, advice in instead.items():
        if getattr(job, name) is not None:
            raise invalid_value(name, f"{scheduler} has none; {advice}")


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _slurm(job: Job) -> list[str | None]:
    """Options of sbatch(1)."""
    gpus = str(job.gpus_per_node) if job.gpus_per_node else None
    return [
        _only(job.name, "--job-name={}"),
        _only(job.account, "--account={}"),
        _only(job.partition, "--partition={}"),
        _only(job.qos, "--qos={}"),
        _only(job.constraint, "--constraint={}"),
        f"--nodes={job.nodes}",
        f"--ntasks-per-node={job.ranks_per_node}",
        f"--cpus-per-task={job.cpus_per_rank}",
        _only(gpus, "--gpus-per-node={}"),
        f"--time={_clock(job.time)}",
        _warning(job, f"--signal=B:USR1@{WARNING}"),
        "--open-mode=append",
        _only(job.mail, "--mail-user={}"),
        _only(job.mail, "--mail-type=END,FAIL"),
    ]


def _srun(job: Job) -> str:
    if job.launcher == "mpiexec":
        return _mpiexec_in_slurm(job)
    kind = {"mpich": "pmi2", "openmpi": "pmix"}[job.mpi]
    return f"srun -K --mpi={kind} --cpus-per-task={job.cpus_per_rank}"


def _pbs(job: Job) -> list[str | None]:
    """Options of OpenPBS's qsub; it has no signal before the limit, and reads no quotes."""
    for option in ("name", "account", "partition", "constraint", "mail"):
        value = getattr(job, option)
        if value is not None and shlex.quote(value) != value:
            raise invalid_value(option, f"{value!r} holds what PBS would not read as one word")
    if any(re.match(r"(#PBS\s+)?-[Jt]", directive.strip()) for directive in job.directives):
        raise invalid_value(
            "directive",
            "a task of an array cannot submit itself again under PBS; submit a script a task",
        )
    _refuse(job, "PBS", qos="name its queue by --partition, or use --directive")
    cores = job.ranks_per_node * job.cpus_per_rank
    chunk = [f"{job.nodes}:ncpus={cores}:mpiprocs={job.ranks_per_node}"]
    chunk += [f"ompthreads={job.cpus_per_rank}"]
    chunk += [f"ngpus={job.gpus_per_node}"] if job.gpus_per_node else []
    chunk += [job.constraint] if job.constraint else []
    return [
        f"-N {job.name}",
        _only(job.account, "-A {}"),
        _only(job.partition, "-q {}"),
        f"-l select={':'.join(chunk)}",
        "-l place=scatter",
        f"-l walltime={_clock(job.time)}",
        "-j oe",
        _only(job.mail, "-M {}"),
        _only(job.mail, "-m ae"),
    ]


def _lsf(job: Job) -> list[str | None]:
    """Options of IBM's bsub; -Q 75 puts a job that stopped in time back into its queue."""
    _refuse(job, "LSF", qos="name its queue by --partition, or use --directive")
    minutes = max(1, job.time // 60)
    gpus = str(job.gpus_per_node) if job.gpus_per_node else None
    return [
        _only(job.name, "-J {}"),
        _only(job.account, "-P {}"),
        _only(job.partition, "-q {}"),
        f"-n {job.ranks}",
        f'-R "span[ptile={job.ranks_per_node}] affinity[core({job.cpus_per_rank})]"',
        None if job.constraint is None else f'-R "select[{job.constraint}]"',
        _only(gpus, '-gpu "num={}"'),
        f"-W {minutes // 60}:{minutes % 60:02d}",
        _warning(job, f"-wa USR1 -wt {WARNING // 60}"),
        '-Q "75"',
        f"-o {shlex.quote(job.name)}.%J.log",
        _only(job.mail, "-N -u {}"),
    ]


def _flux(job: Job) -> list[str | None]:
    """Options of flux-batch(1)."""
    _refuse(
        job,
        "Flux",
        qos="name its queue by --partition, or use --directive",
        mail="leave it out",
    )
    if job.gpus_per_node % job.ranks_per_node:
        raise invalid_value(
            "gpus_per_node",
            f"Flux gives GPUs to ranks, and {job.gpus_per_node} cannot be shared evenly by "
            f"{job.ranks_per_node}",
        )
    gpus = job.gpus_per_node // job.ranks_per_node
    return [
        _only(job.name, "--job-name={}"),
        _only(job.account, "--bank={}"),
        _only(job.partition, "--queue={}"),
        _only(job.constraint, "--requires={}"),
        f"--nodes={job.nodes}",
        f"--nslots={job.ranks}",
        f"--cores-per-slot={job.cpus_per_rank}",
        f"--gpus-per-slot={gpus}" if gpus else None,
        f"--time-limit={job.time}s",
        _warning(job, f"--signal=SIGUSR1@{WARNING}s"),
        f"--output={shlex.quote(job.name)}-{{{{id}}}}.log",
    ]


def _flux_run(job: Job) -> str:
    gpus = job.gpus_per_node // job.ranks_per_node
    pmix = " -o pmi=pmix" if job.mpi == "openmpi" else ""
    return (
        f"flux run --nodes={job.nodes} --ntasks={job.ranks} --cores-per-task={job.cpus_per_rank}"
        + (f" --gpus-per-task={gpus}" if gpus else "")
        + pmix
    )


SCHEDULERS = {
    "slurm": Scheduler(
        "Slurm",
        ("SLURM_JOB_ID",),
        slurm_time_left,
        "#SBATCH",
        ("sbatch",),
        _slurm,
        _srun,
        'sbatch ${SLURM_ARRAY_TASK_ID:+--array="$SLURM_ARRAY_TASK_ID"} "$0" "$@"',
        task="SLURM_ARRAY_TASK_ID",
    ),
    "pbs": Scheduler(
        "PBS",
        ("PBS_JOBID",),
        pbs_time_left,
        "#PBS",
        ("qsub",),
        _pbs,
        lambda job: _mpiexec(job, '"$PBS_NODEFILE"'),
        '[ -z "${PBS_ARRAY_INDEX:-${PBS_ARRAYID:-}}" ] || { echo "PBS cannot submit one task of an '
        'array; submit it again" >&2; exit 75; }\n  qsub "$0"',
        enter='cd "$PBS_O_WORKDIR"',
        cancels="TERM",
        task="PBS_ARRAY_INDEX",
    ),
    "lsf": Scheduler(
        "LSF",
        ("LSB_JOBID",),
        lsf_time_left,
        "#BSUB",
        ("bsub",),
        _lsf,
        lambda job: _mpiexec(job, '"$LSB_DJOB_HOSTFILE"'),
        "",
        task="LSB_JOBINDEX",
    ),
    "flux": Scheduler(
        "Flux",
        ("FLUX_ENCLOSING_ID", "FLUX_JOB_ID"),
        flux_time_left,
        "#FLUX:",
        ("flux", "batch"),
        _flux,
        _flux_run,
        'flux --parent batch "$0" "$@"',
        forward="flux job kill --signal=SIGUSR1 $(flux job last)",
    ),
}
