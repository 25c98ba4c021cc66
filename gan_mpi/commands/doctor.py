"""gan-mpi doctor."""

from pathlib import Path

import click

from gan_mpi.errors import UserError

WRONG_LAUNCHER = 64  # exit code


@click.command(short_help="Say whether a job started like this would work.")
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    metavar="DIR",
    help="Where the run would be.",
)
def doctor(run_dir: Path) -> int:
    """Say whether a job that is started like this one would work.

    Run it under the launcher of the job, on its nodes: mpiexec -n 4 gan-mpi doctor. It looks at
    versions, code and options of all ranks, cores, threads and GPUs, the run directory as each node
    sees it, sums over ranks and their speed, clocks, and whether signals arrive. Each thing found
    is a sentence with what to do.

    \b
    Exit codes: 0 nothing found, 1 something found, 2 asked wrongly.
    """
    from gan_mpi.cluster.probes import SignalProbe
    from gan_mpi.lifecycle.phases import Phases

    phases, signals = Phases(), SignalProbe()
    from gan_mpi.mpi.world import world
    from gan_mpi.options.begin import importing

    try:
        comm = world()
    except UserError as error:
        if error.exit_code != WRONG_LAUNCHER:
            raise
        raise error.retold(f"found: {error}", exit_code=1) from None
    signals.install()
    with importing():
        from gan_mpi.programs.doctor import doctor as examine
    return examine(comm, run_dir, signals, phases)
