"""gan-mpi train."""

import json
from typing import Any

import click

from gan_mpi.commands.options import GroupedCommand, GroupedOption, config_options
from gan_mpi.config import RunConfig, TrainConfig


@click.command(cls=GroupedCommand)
@config_options(RunConfig, TrainConfig)
@click.option(
    "--fast/--full",
    "fast",
    cls=GroupedOption,
    group="Everyday",
    default=None,
    help="The preset's short or its full length: 300 or 40000 steps of basic.  [default: fast]",
)
@click.option(
    "--kimg",
    cls=GroupedOption,
    group="Everyday",
    type=click.FloatRange(min=0, min_open=True),
    help="Length in thousands of real images, instead of --steps.",
)
@click.option(
    "-n",
    "--dry-run",
    cls=GroupedOption,
    group="Everyday",
    is_flag=True,
    help="Print the resolved configuration and exit.",
)
def train(dry_run: bool, **options: Any) -> int:
    """Train a generator and a discriminator on MNIST, on all ranks of mpiexec.

    Without --datadir it looks in data/MNIST, and else draws digits. What it makes goes to a
    run directory: checkpoints, sample grids, curves and a log.

    \b
    Exit codes: 0 done, 1 could not, 2 asked wrongly, 64 the launcher belongs to another
    MPI, 75 stopped early with a checkpoint (the same run can go on), 76 diverged.
    """
    given = {name: value for name, value in options.items() if value is not None}
    check_together(given)
    if dry_run:
        return _show(given)

    from gan_mpi.signals import StopRequest

    stop = StopRequest()
    stop.install()
    from gan_mpi.comm import world

    comm = world()
    stop.install()
    from gan_mpi.train import train as run_training

    return run_training(comm, given, stop)


def check_together(given: dict[str, Any]) -> None:
    """Raise click.UsageError for options that exclude each other, and for wrong rates."""
    for first, second in (
        ("steps", "kimg"),
        ("datadir", "glyphs"),
        ("run_dir", "resume"),
    ):
        if first in given and second in given:
            first, second = (name.replace("_", "-") for name in (first, second))
            raise click.UsageError(
                f"--{first} and --{second} exclude each other; give one."
            )


def _show(given: dict[str, Any]) -> int:
    from gan_mpi import launcher
    from gan_mpi.prepare import describe_start, find_start

    start = find_start(given)
    if launcher.speaks_first():
        click.echo(json.dumps(describe_start(start), indent=2))
        click.echo("Dry run; nothing was written.")
    return 0
