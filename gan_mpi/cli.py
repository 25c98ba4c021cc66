"""The command line."""

import click

from gan_mpi import __version__
from gan_mpi.commands.bench import bench
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
from gan_mpi.commands.supervise import supervise
from gan_mpi.commands.train import train
from gan_mpi.commands.train_classifier import train_classifier


class InOrder(click.Group):
    """A group that lists its commands as they were added: in the order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gan-mpi")
def cli() -> None:
    """Train generative adversarial networks on any number of MPI ranks.

    mpiexec -n 4 gan-mpi train --datadir DIR computes what gan-mpi train --datadir DIR does, on
    four ranks.
    """


for command in (
    train,
    sample,
    evaluate,
    report,
    status,
    study,
    bench,
    export,
    data,
    presets,
    train_classifier,
    jobscript,
    supervise,
    doctor,
):
    cli.add_command(command)
