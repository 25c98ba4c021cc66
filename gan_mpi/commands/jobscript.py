"""gan-mpi jobscript."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click

from gan_mpi.cluster.jobscript import task_number, write_script
from gan_mpi.cluster.schedulers import SCHEDULERS, Job
from gan_mpi.cluster.time_left import seconds_of
from gan_mpi.errors import UserError, reason
from gan_mpi.options.params import choice_option, number_option
from gan_mpi.runs.log import say

SITE_FILE = "jobscript.toml"


class TimeLimit(click.ParamType):
    """A time such as 90 (minutes), 4:00:00 or 2-12:00:00, in seconds."""

    name = "time"

    def convert(
        self,
        value: str | int,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int:
        try:
            seconds = seconds_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds < 60:
            self.fail(f"{value!r} is less than a minute.", param, ctx)
        return seconds


class SiteCommand(click.Command):
    """A command whose defaults a file in the user's configuration folder may set."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        kwargs["default_map"] = self._site_defaults()
        return super().make_context(*args, **kwargs)

    def _site_defaults(self) -> dict[str, Any]:
        path = Path(click.get_app_dir("gan-mpi")) / SITE_FILE
        if not path.exists():
            return {}
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            why = reason(error) if isinstance(error, OSError) else str(error)
            raise UserError(f"{path}: {why}.", exit_code=2) from None
        options = {
            option.removeprefix("--"): param
            for param in self.params
            for option in param.opts
            if param.name not in ("command", "submit")
        }
        for key, value in values.items():
            if key not in options:
                raise UserError(
                    f"{path}: no option --{key}; it may set {', '.join(options)}.",
                    exit_code=2,
                )
            if wanted := _lacks(options[key], value):
                raise UserError(f"{path}: {key} should be {wanted}.", exit_code=2)
        return {str(options[key].name): value for key, value in values.items()}


def _lacks(option: click.Parameter, value: object) -> str:
    """Return of what kind the value of an option should be in the file, "" if it is."""
    if option.multiple:
        fits = isinstance(value, list) and all(isinstance(each, str) for each in value)
        return "" if fits else 'a list of texts, such as ["one", "other"]'
    if isinstance(option.type, click.IntRange):
        return "" if type(value) is int else "a whole number, such as 2"
    if isinstance(option.type, TimeLimit) and type(value) is int:
        return ""
    return "" if isinstance(value, str) else 'a text, such as "one"'


@click.command(cls=SiteCommand, short_help="Print a batch script, or submit it.")
@choice_option("--scheduler", list(SCHEDULERS), "Whose script to write.", required=True)
@number_option("--nodes", "Nodes of the job.", minimum=1, default=1)
@number_option(
    "--ranks-per-node", "Ranks of each node: one a core, or one a GPU.", minimum=1, required=True
)
@number_option("--cpus-per-rank", "Cores, and threads, of each rank.", minimum=1, default=1)
@number_option("--gpus-per-node", "GPUs of each node.", minimum=0, default=0, show_default=False)
@click.option(
    "--time",
    type=TimeLimit(),
    required=True,
    metavar="TIME",
    help="Limit of one job: minutes, H:MM:SS or D-HH:MM:SS.",
)
@click.option("--account", metavar="A", help="Who pays: account, project or bank.")
@click.option("--partition", metavar="P", help="Partition or queue.")
@click.option("--qos", metavar="Q", help="Quality of service, of Slurm alone.")
@click.option("--constraint", metavar="C", help="Features that the nodes must have.")
@click.option("--mail", metavar="M", help="Address told when the job ends.")
@click.option(
    "--name",
    default="gan-mpi",
    show_default=True,
    metavar="NAME",
    help="Name of the job.",
)
@click.option(
    "--module",
    "modules",
    multiple=True,
    metavar="NAME",
    help="Module to load; may be repeated.",
)
@click.option("--venv", metavar="DIR", help="Virtual environment that holds gan-mpi.")
@click.option("--container", metavar="IMAGE", help="Apptainer image that holds gan-mpi.")
@click.option(
    "--directive",
    "directives",
    multiple=True,
    metavar="TEXT",
    help="Line for the scheduler as it is; may be repeated.",
)
@choice_option(
    "--launcher",
    ["srun", "mpiexec"],
    "What starts the ranks under Slurm; elsewhere it is mpiexec, or flux run.",
    default="srun",
)
@choice_option(
    "--mpi",
    ["mpich", "openmpi"],
    "Which MPI gan-mpi will use.  [default: the one that mpi4py finds here]",
)
@number_option(
    "--max-restarts",
    "Restarts within the job, by gan-mpi supervise, of a training whose rank or node was lost.",
    minimum=0,
    default=0,
    show_default=False,
)
@click.option("--submit", is_flag=True, help="Hand the script to the scheduler.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def jobscript(ctx: click.Context, submit: bool, **options: Any) -> int:
    """Print a batch script that runs COMMAND, such as: -- train --run-dir RUN --datadir DIR.

    The job stops in time with a checkpoint, and submits itself again until the run is done. What
    your site always needs can stand in jobscript.toml in the configuration folder of gan-mpi
    (~/.config/gan-mpi): lines such as account = "a123" or module = ["mpich/4.2"].
    """
    _check_command(ctx, options["command"], SCHEDULERS[options["scheduler"]].task)
    if options["venv"] and options["container"]:
        raise click.UsageError("--venv and --container exclude each other; give one.")
    if options["max_restarts"] and options["container"]:
        raise click.UsageError(
            "--max-restarts wants gan-mpi beside the launcher, where --container has none; leave "
            "one out."
        )
    if options["max_restarts"] and options["command"][0] != "train":
        raise click.UsageError("--max-restarts is for train, which goes on by itself.")
    options["mpi"] = options["mpi"] or _mpi_here()
    script = write_script(Job(**options))
    if not submit:
        say(script.removesuffix("\n"))
        return 0
    return _submit(SCHEDULERS[options["scheduler"]].submit, script)


def _check_command(ctx: click.Context, words: tuple[str, ...], task: str) -> None:
    """Refuse what gan-mpi itself would refuse, now rather than after a night in the queue.

    The number of an array's task, which the script fills in for the variable `task`, is a number.
    """
    if task:
        words = tuple(task_number(task).sub("1", word) for word in words)
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    name, *rest = words
    if name not in group.commands:
        raise click.UsageError(f"gan-mpi has no command {name!r}.")
    if name != "train":
        group.commands[name].make_context(name, rest, parent=ctx.parent).close()
        return
    from gan_mpi.commands.train import parse

    if not parse(rest, ctx.parent).keys() & {"run_dir", "resume"}:
        raise click.UsageError(
            "a job that is submitted again must find its run; give train --run-dir RUN."
        )


def _mpi_here() -> str:
    from gan_mpi.mpi.world import library_name

    name = library_name()
    return "openmpi" if name.startswith("Open MPI") else "mpich"


def _submit(command: tuple[str, ...], script: str) -> int:
    try:
        done = subprocess.run(command, input=script, text=True, capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"--submit: cannot start {command[0]}: {reason(error)}.") from None
    if done.returncode:
        why = " ".join((done.stderr.strip() or done.stdout).split())
        raise UserError(f"--submit: {' '.join(command)} refused: {why}")
    say(done.stdout.strip())
    return 0
