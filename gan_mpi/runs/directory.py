"""Run directories: numbered or named, new or to be resumed."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from gan_mpi.config.given import OptionValue
from gan_mpi.errors import UserError, reason
from gan_mpi.files import write_aside
from gan_mpi.runs.record import DataDict
from gan_mpi.runs.records import Positive, fits

CHECKPOINT = "checkpoint"  # how names of such files begin
CONFIG_FILE = "config.json"
LOG_FILE = "log.txt"


class KnownConfig(TypedDict):
    """What is read of a configuration without the program that it was written by."""

    preset: str
    steps: Positive


class Description(TypedDict):
    """The part of config.json that says what a run is."""

    config: KnownConfig
    data: DataDict


STARTS_AT_ONCE = 100
# What a new run may find in its folder: what it was writing when it was killed, and what others
# write of it: schedulers, tee, desktops, a file system in which a deleted file is still open.
BESIDE = re.compile(
    r"\..*\.tmp|claim-\d+\.json|\.nfs.*|.*\.(log|out|err|[oe]\d+)|(log|out|err|std).*\.txt|STOP"
    r"|\.DS_Store|Thumbs\.db",
    re.IGNORECASE,
)


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """Return the checkpoint file of a step."""
    return run_dir / f"{CHECKPOINT}-{step:06d}.pt"


def list_checkpoints(run_dir: Path) -> list[tuple[int, Path]]:
    """Return the steps and files of all checkpoints of a run, the newest first."""
    return list_numbered(run_dir, CHECKPOINT, "pt")[::-1]


def list_numbered(run_dir: Path, name: str, ending: str) -> list[tuple[int, Path]]:
    """Return the steps and files name-STEP.ending of a run, in the order of steps."""
    files = []
    for path in run_dir.glob(f"{name}-*.{ending}"):
        if match := re.fullmatch(rf"{name}-(\d{{6,}})\.{ending}", path.name):
            files.append((int(match[1]), path))
    return sorted(files)


def make_numbered(outdir: Path, description: str) -> Path:
    """Make and return outdir/NNNNN-description, one more than the highest number there.

    Safe when several jobs do so at once.  Raises UserError.
    """
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        for _ in range(STARTS_AT_ONCE):
            if (run_dir := _claim(outdir, next_number(outdir), description)) is not None:
                return run_dir
    except OSError as error:
        raise UserError(f"--outdir: cannot make a folder in {outdir}: {reason(error)}.") from None
    raise UserError(
        f"--outdir: others took {STARTS_AT_ONCE} numbers in {outdir} before this start could; try "
        "again, or name a folder with --run-dir."
    )


def next_number(outdir: Path) -> int:
    """Return one more than the highest number of a run in a folder, which need not be there."""
    paths = outdir.iterdir() if outdir.is_dir() else ()
    names = (re.match(r"\.?(\d{5,18})(?:-|$)", path.name) for path in paths)
    return max((int(name[1]) for name in names if name), default=-1) + 1


def _claim(outdir: Path, number: int, description: str) -> Path | None:
    """Make and return a folder of this number, None if another start has taken the number.

    A folder named by the number alone is held meanwhile, since others' descriptions may differ.
    """
    claim = outdir / f".{number:05d}"
    try:
        claim.mkdir()
    except FileExistsError:
        return None
    try:
        if any(outdir.glob(f"{number:05d}-*")):
            return None
        run_dir = outdir / f"{number:05d}-{description}"
        run_dir.mkdir()
        return run_dir
    finally:
        claim.rmdir()


def make_named(run_dir: Path, option: str) -> Path:
    """Make and return a run directory that is new, or of a run, which may have saved nothing yet.

    Logs may lie there, and what a killed start left.  Raises UserError, naming the option by which
    a user named the folder.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in run_dir.iterdir() if not BESIDE.fullmatch(path.name)]
        foreign = others and not _is_run(run_dir)
    except OSError as error:
        raise UserError(f"{option}: cannot make {run_dir}: {reason(error)}.") from None
    if foreign:
        holds = f"{option}: {run_dir} holds files, such as {others[0]}, but no run"
        raise UserError(f"{holds}; name {'a new folder' if option == '--run-dir' else 'another'}.")
    return run_dir


def _is_run(run_dir: Path) -> bool:
    """Return whether a folder is a run's: its config.json may be another program's."""
    if list_checkpoints(run_dir):
        return True
    try:
        return bool(read_description(run_dir))
    except UserError:
        return False


def write_config(run_dir: Path, content: Mapping[str, object]) -> None:
    """Write config.json for people; a resume reads of it how the run is evaluated, no more."""
    write_aside(run_dir / CONFIG_FILE, (json.dumps(content, indent=2) + "\n").encode())


def read_config(run_dir: Path) -> dict[str, Any]:
    """Return the configuration in config.json.  Raises UserError if there is no run."""
    return read_description(run_dir)["config"]


def read_description(run_dir: Path) -> dict[str, Any]:
    """Return what config.json holds: 'config' and 'data'.  Raises UserError if there is no run."""
    try:
        content = json.loads((run_dir / CONFIG_FILE).read_text(encoding="utf-8"))
        if not fits(content, Description):
            raise ValueError("of another type")
        return {name: content[name] for name in ("config", "data")}
    except OSError as error:
        raise UserError(
            f"{run_dir} is not a run directory: {CONFIG_FILE}: {reason(error)}."
        ) from None
    except (ValueError, RecursionError):
        train = f"gan-mpi train --resume {shlex.quote(str(run_dir))}"
        then = f"; {train} writes it anew" if list_checkpoints(run_dir) else ", or not a run's"
        raise UserError(f"{run_dir / CONFIG_FILE} is damaged{then}.") from None


def read_evaluation_options(run_dir: Path) -> dict[str, OptionValue]:
    """Return the options that a resumed run keeps, by config.json; none if it is damaged."""
    try:
        options = json.loads((run_dir / CONFIG_FILE).read_text(encoding="utf-8"))["evaluation"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return options if fits(options, dict[str, OptionValue]) else {}


def read_warnings(run_dir: Path) -> list[str]:
    """Return the warnings in a run's log.txt, the oldest first."""
    path = run_dir / LOG_FILE
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.startswith("Warning: ")]
