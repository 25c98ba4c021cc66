"""gan-mpi study."""

import itertools
from pathlib import Path

import click

from gan_mpi.config.given import Given, text_of
from gan_mpi.config.values import RANK
from gan_mpi.options.params import choice_option, number_option

METRICS = ("frechet", "kernel", "precision", "recall", "density", "coverage", "score")


class Varied(click.ParamType):
    """An option of train and the values that it takes, such as batch=32,128."""

    name = "varied"

    def convert(
        self,
        value: str | tuple[str, list[str]],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, list[str]]:
        if isinstance(value, tuple):
            return value
        name, equals, values = value.partition("=")
        choices = [each.strip() for each in values.split(",")]
        if not (name.strip("- ") and equals and all(choices)):
            self.fail(f"{value!r} is not like batch=32,128,512.", param, ctx)
        return name.strip("- "), choices


@click.command(short_help="Train a grid of settings, and compare them.")
@click.option(
    "--vary",
    type=Varied(),
    multiple=True,
    required=True,
    metavar="NAME=V,V,...",
    help="An option of train and its values, or ranks=1,2; several options make a grid.",
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="study",
    show_default=True,
    help="Folder of the runs; the same command again goes on there.",
)
@choice_option("--metric", METRICS, "Figure that the settings are compared by.", default="frechet")
@number_option(
    "--only", "Run the Nth setting alone, for job arrays, then show all that are done.", minimum=1
)
@click.argument("options", metavar="[-- OPTIONS OF TRAIN]", nargs=-1)
@click.pass_context
def study(
    ctx: click.Context,
    vary: tuple[tuple[str, list[str]], ...],
    folder: Path,
    metric: str,
    only: int | None,
    options: tuple[str, ...],
) -> int:
    """Train a grid of settings, and show what it comes to: quality against time.

    'mpiexec -n 2 gan-mpi study --vary batch=32,128,512 --vary ranks=1,2 -- --kimg 500' trains six
    runs of equally many images, evaluates each five times, and ends in a table and a plot.
    """
    from gan_mpi.commands.train import parse_after_dashes
    from gan_mpi.options.begin import begin, importing

    varied: dict[str, list[str]] = dict(vary)
    if len(varied) < len(vary):
        raise click.UsageError("--vary names one option twice; give all its values at once.")

    def given(words: list[str]) -> Given:
        options_of_run = parse_after_dashes([*options, *words], ctx)
        if wrong := options_of_run.keys() & {"run_dir", "resume", "outdir"}:
            flag = "--" + min(wrong).replace("_", "-")
            raise click.UsageError(f"{flag} does not go with study; give study --dir DIR.")
        if (text_of(options_of_run, "on_failure") or "abort") != "abort":
            raise click.UsageError("--on-failure does not go with study, which shares its ranks.")
        if RANK in (text_of(options_of_run, "datadir") or ""):
            raise click.UsageError(
                "--datadir: study compares by test images, and sites have none in common."
            )
        return options_of_run

    of_train = {name: values for name, values in vary if name != "ranks"}
    grid = []
    for chosen in itertools.product(*of_train.values()):
        pairs = zip(of_train, chosen, strict=True)
        grid.append(given([word for name, value in pairs for word in (f"--{name}", value)]))
    comm, stop, _, end = begin(text_of(grid[0], "time_limit"))
    with importing():
        from gan_mpi.programs.study import study as run
    return run(comm, folder, varied, given, metric, only, stop, end)
