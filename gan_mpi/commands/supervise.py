"""gan-mpi supervise."""

from pathlib import Path

import click

from gan_mpi.errors import WRONG, UserError
from gan_mpi.mpi import launcher
from gan_mpi.options.params import number_option
from gan_mpi.runs.log import warn


@click.command(
    short_help="Start a training again when a rank or a node was lost.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@number_option("--max-restarts", "How often at most.", minimum=0, default=3)
@click.option(
    "--hostfile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Hosts, one a line; {hosts} in COMMAND are those that answer, {ranks} their ranks.",
)
@number_option("--ranks-per-host", "Ranks of each of them.", minimum=1, default=1)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def supervise(
    max_restarts: int, hostfile: Path | None, ranks_per_host: int, command: tuple[str, ...]
) -> int:
    """Run COMMAND, and run it again from the last checkpoint while it is lost or hangs.

    gan-mpi supervise -- mpiexec -n 8 gan-mpi train --run-dir RUN --datadir DIR

    gan-mpi supervise --hostfile hosts.txt -- mpiexec -n {ranks} -f {hosts} gan-mpi train ...

    A job is lost when a rank, a node or mpiexec was killed. What would happen again is not tried
    again: wrong options, a failing rank, losses that diverge. Signals are handed on. The exit code
    is that of the training, whatever mpiexec makes of it.
    """
    from gan_mpi.lifecycle.hosts import Hosts
    from gan_mpi.lifecycle.supervisor import Supervisor, run_dir_of

    if launcher.rank() is not None:
        raise UserError(
            "supervise starts mpiexec, and is not started by it: gan-mpi supervise -- mpiexec ...",
            exit_code=WRONG,
        )
    words = list(command)
    hosts = None if hostfile is None else Hosts(hostfile, ranks_per_host, warn)
    if hosts is not None:
        hosts.require_used(words)
    return Supervisor(words, run_dir_of(words), max_restarts, warn, hosts).run()
