"""The command line."""

import click

from gan_mpi import __version__
from gan_mpi.commands.data import data
from gan_mpi.commands.doctor import doctor
from gan_mpi.commands.evaluate import evaluate
from gan_mpi.commands.export import export
from gan_mpi.commands.jobscript import jobscript
from gan_mpi.commands.presets import presets
from gan_mpi.commands.report import report
from gan_mpi.commands.sample import sample
from gan_mpi.commands.status import status
from gan_mpi.commands.study import study
from gan_mpi.commands.train import train
from gan_mpi.commands.train_classifier import train_classifier


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gan-mpi")
def cli() -> None:
    """Train generative adversarial networks on any number of MPI ranks.

    mpiexec -n 4 gan-mpi train --datadir DIR computes what gan-mpi train --datadir DIR does, on
    four ranks.
    """


cli.add_command(train)
cli.add_command(sample)
cli.add_command(evaluate)
cli.add_command(train_classifier)
cli.add_command(export)
cli.add_command(presets)
cli.add_command(data)
cli.add_command(jobscript)
cli.add_command(doctor)
cli.add_command(status)
cli.add_command(report)
cli.add_command(study)
