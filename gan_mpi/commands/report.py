"""gan-mpi report."""

from pathlib import Path

import click

from gan_mpi.options.params import out_option
from gan_mpi.runs.log import say


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option("File to write.", "report.html", endings=(".html", ".htm"))
def report(runs: tuple[Path, ...], out: Path) -> int:
    """Write one HTML page about one or several runs.

    It holds curves that can be read off, samples over the steps beside real images, evaluations,
    warnings, each start of a run and its configuration; of several runs also what differs between
    them. It is one file, and needs no network.
    """
    from gan_mpi.files import write_aside
    from gan_mpi.programs.report import page

    data = page(runs).encode()
    write_aside(out, data)
    say(f"{out}: {len(runs)} run(s), {len(data) / 1e6:.1f} MB")
    return 0
