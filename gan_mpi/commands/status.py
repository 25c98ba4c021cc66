"""gan-mpi status."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gan_mpi.errors import printable
from gan_mpi.options.params import RunPath
from gan_mpi.runs.log import say

if TYPE_CHECKING:
    from rich.text import Text

    from gan_mpi.programs.status import Status

PAUSE = 2.0  # seconds between looks of --watch


@click.command(short_help="Say how runs are doing, from their files alone.")
@click.argument("place", metavar="[RUN|NUMBER|FOLDER]", required=False, type=RunPath())
@click.option("--watch", is_flag=True, help="Look again every two seconds until it ends.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def status(place: Path | None, watch: bool, as_json: bool) -> int:
    """Say how a run is doing, by default the newest, or a line of each in a folder of runs.

    It reads files only, so that a login node or another job can ask: progress, speed, time left,
    node-hours used and to go, age of the checkpoint, losses, warnings, and each start of the run.
    """
    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other; give one.")
    if as_json:
        say(json.dumps(_read(place), indent=2))
    elif watch:
        _watch(place)
    else:
        say("\n".join(_lines(place)[0]))
    return 0


def _read(place: Path | None) -> "Status | list[Status]":
    from gan_mpi.programs.status import read_status
    from gan_mpi.runs.find import runs_at

    runs = runs_at(place)
    alone = place is None or runs == [place]
    return read_status(runs[0]) if alone else [read_status(run) for run in runs]


def _lines(place: Path | None) -> tuple[list[str], bool]:
    """Return what to print, and whether anything is still running."""
    from gan_mpi.programs.status import page, summary

    status = _read(place)
    runs = status if isinstance(status, list) else [status]
    running = any(each["state"] in ("starting", "running") for each in runs)
    return summary(status) if isinstance(status, list) else page(status), running


def _shown(lines: list[str]) -> "Text":
    from rich.text import Text

    return Text("\n".join(map(printable, lines)))


def _watch(place: Path | None) -> None:
    from rich.live import Live

    from gan_mpi.runs.find import runs_at

    place = place or runs_at(None)[0]
    lines, running = _lines(place)
    with Live(_shown(lines), auto_refresh=False) as live:
        while running:
            time.sleep(PAUSE)
            lines, running = _lines(place)
            live.update(_shown(lines), refresh=True)
