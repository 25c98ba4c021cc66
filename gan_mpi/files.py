"""Files that are either the old ones or the whole new ones, whatever happens."""

import json
import os
from pathlib import Path
from typing import Any

from gan_mpi.errors import UserError, reason


def write_aside(path: Path, data: bytes) -> None:
    """Write a file beside its place, sync it, and rename it; several processes may do so.

    Raises UserError, naming the file, if the operating system refuses.
    """
    aside = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}.tmp")
    try:
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}.") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, text: str) -> None:
    """Append one line to a file in one write.  Raises UserError."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}.") from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file's lines, without a last one cut off by a crash."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def sweep(folder: Path) -> None:
    """Remove what a killed process was writing aside."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
