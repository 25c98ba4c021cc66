"""Run the command line; if any rank fails, the whole MPI job ends with it."""

import gc
import io
import platform
import signal
import sys
import time
import traceback

from gan_mpi.lifecycle.outcome import report
from gan_mpi.mpi import launcher

MISSED = 2.0  # seconds in which a launcher misses a rank, and ends the others


def main() -> None:
    """Run gan-mpi and leave with its exit code.

    A command returns its exit code, and then all ranks leave together.  What escapes it is
    the failure of this rank, and ends the job at once, unless all ranks are known to fail alike.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from gan_mpi.cli import cli

        code = cli.main(prog_name="gan-mpi", standalone_mode=False) or 0
    except BaseException as error:  # noqa: BLE001 - SystemExit on one rank is a failure too
        code = _fail(error)
    if _speaks():
        report(code)
    if "gan_mpi.mpi.world" in sys.modules:
        # srun -K sends it to the ranks that leave last, if the first left with a code.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.modules["gan_mpi.mpi.world"].leave(code)
    gc.freeze()  # the interpreter ends with a search for garbage, as long as an import of torch
    sys.exit(code)


def _fail(error: BaseException) -> int:
    """Say what happened, once; abort the job unless all ranks fail alike."""
    code = _exit_code(error)
    if _all_fail_alike(error):
        if _speaks():
            _show(error)
        return code
    from gan_mpi.mpi.survivors import is_of_others, others_go_on
    from gan_mpi.mpi.world import abort

    if is_of_others(error) and not others_go_on():
        time.sleep(MISSED)
    what = "ends, and the others go on" if others_go_on() else "ends the job"
    sys.stderr.write(f"Rank {launcher.rank()} on {platform.node()} {what}:\n")
    _show(error)
    if not (is_of_others(error) or others_go_on()):
        report(code)
    abort(code)
    return code


def _speaks() -> bool:
    """Return whether this rank says and reports what all would alike."""
    world = sys.modules.get("gan_mpi.mpi.world")
    return launcher.speaks_first() if world is None else bool(world.is_first())


def _exit_code(error: BaseException) -> int:
    code = getattr(error, "exit_code", None)
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        code = error.code
    if isinstance(error, KeyboardInterrupt):
        code = 130
    return code or 1


def _all_fail_alike(error: BaseException) -> bool:
    if getattr(error, "on_all_ranks", False) or launcher.rank() is None:
        return True
    from gan_mpi.mpi import world

    return world.is_alone() if world.has_started() else world.all_ranks_failed()


def _show(error: BaseException) -> None:
    import click

    from gan_mpi.errors import UserError, printable

    if isinstance(error, click.ClickException):
        said = io.StringIO()
        error.show(said)
        sys.stderr.write(printable(said.getvalue()))
    elif isinstance(error, UserError):
        sys.stderr.write(f"Error: {error}\n")
    elif isinstance(error, (KeyboardInterrupt, click.Abort)):
        sys.stderr.write("Aborted.\n")
    elif isinstance(error, SystemExit):
        sys.stderr.write(f"Error: a rank left the program with {error.code!r}.\n")
    else:
        traceback.print_exception(error)


if __name__ == "__main__":
    main()
