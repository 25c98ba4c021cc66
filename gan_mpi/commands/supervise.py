"""gan-mpi supervise."""

import click

from gan_mpi.errors import WRONG, UserError
from gan_mpi.mpi import launcher
from gan_mpi.runs.log import warn


@click.command(
    short_help="Start a training again when a rank or a node was lost.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "--max-restarts",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="How often at most.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def supervise(max_restarts: int, command: tuple[str, ...]) -> int:
    """Run COMMAND, and run it again from the last checkpoint while it is lost or hangs.

    gan-mpi supervise -- mpiexec -n 8 gan-mpi train --run-dir RUN --datadir DIR

    A job is lost when a rank, a node or mpiexec was killed. What would happen again is not tried
    again: wrong options, a failing rank, losses that diverge. Signals are handed on. The exit code
    is that of the training, whatever mpiexec makes of it.
    """
    from gan_mpi.lifecycle.supervisor import Supervisor, run_dir_of

    if launcher.rank() is not None:
        raise UserError(
            "supervise starts mpiexec, and is not started by it: gan-mpi supervise -- mpiexec ...",
            exit_code=WRONG,
        )
    words = list(command)
    return Supervisor(words, run_dir_of(words), max_restarts, warn).run()
