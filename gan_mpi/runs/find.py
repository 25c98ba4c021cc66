"""Runs by what people call them: a folder, a number, a folder of runs, or none for the newest."""

import os
from pathlib import Path

from gan_mpi.config.running import RunConfig
from gan_mpi.errors import UserError
from gan_mpi.runs.directory import CONFIG_FILE, LOG_FILE, list_checkpoints
from gan_mpi.runs.stats import STATS_FILE

ROOT = Path(RunConfig.outdir)


def named_run(text: str) -> Path:
    """Return the path that a text names; a number alone is that of a run in ROOT.

    Raises UserError if there is no run of that number, and nothing else of that name.
    """
    path = Path(text)
    if os.path.exists(path) or not (text.isascii() and text.isdecimal()):
        return path
    found = sorted(ROOT.glob(f"{int(text):05d}-*"))
    if not found:
        raise UserError(f"there is no run {text} in '{ROOT}', and no folder of that name.", 2)
    return found[0]


def runs_at(place: Path | None) -> list[Path]:
    """Return a run directory alone, those in a folder by name, or the newest in ROOT.

    Raises UserError if there is none.
    """
    if place is None:
        started = [(_touched(run), run) for run in _runs_in(ROOT)]
        if not started:
            raise UserError(f"there is no run in '{ROOT}'; name one, or train one.")
        return [max(started)[1]]
    if os.path.exists(place / CONFIG_FILE):
        return [place]
    found = _runs_in(place)
    if not found:
        raise UserError(f"{place} is not a run directory, and holds none.")
    return found


def newest_trained() -> Path:
    """Return the run in ROOT whose newest checkpoint is the latest.

    Raises UserError if there is none.
    """
    runs = [
        (checkpoints[0][1].stat().st_mtime_ns, run_dir)
        for run_dir in (ROOT.iterdir() if ROOT.is_dir() else ())
        if run_dir.is_dir() and (checkpoints := list_checkpoints(run_dir))
    ]
    if not runs:
        raise UserError(f"there is no run with a checkpoint in '{ROOT}'; name one, or train one.")
    return max(runs)[1]


def _runs_in(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"*/{CONFIG_FILE}"))


def _touched(run_dir: Path) -> int:
    files = (run_dir / name for name in (CONFIG_FILE, STATS_FILE, LOG_FILE))
    return max(path.stat().st_mtime_ns for path in files if path.exists())
