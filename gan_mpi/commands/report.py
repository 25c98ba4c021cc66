"""gan-mpi report."""

from collections.abc import Sequence
from pathlib import Path

import click

from gan_mpi.options.params import RunPath, out_option
from gan_mpi.runs.log import say


@click.command(short_help="Write one HTML page about runs.")
@click.argument("places", metavar="[RUN|NUMBER|FOLDER]...", nargs=-1, type=RunPath())
@out_option("File to write.", "report.html", endings=(".html", ".htm"))
def report(places: tuple[Path, ...], out: Path) -> int:
    """Write one HTML page about runs, by default the newest.

    It holds curves that can be read off, samples over the steps beside real images, evaluations,
    warnings, each start of a run and its configuration; of several runs, or of a folder of them,
    such as a study, also what differs between them. It is one file, and needs no network.
    """
    from gan_mpi.files import write_output
    from gan_mpi.programs.report import page
    from gan_mpi.runs.find import runs_at

    folders = [place for place in places if not place.is_file()]  # as of a shell's study/*
    asked: Sequence[Path | None] = folders or places or [None]
    runs = list(dict.fromkeys(run for place in asked for run in runs_at(place)))
    data = page(runs).encode()
    write_output(out, data, "--out")
    say(f"{out}: {len(runs)} run(s), {len(data) / 1e6:.1f} MB")
    return 0
