"""The starts of a run, one line each in its segments.jsonl: where it ran, how far it got."""

from pathlib import Path
from typing import Any, TypedDict, cast

from gan_mpi.files import append_line, write_aside
from gan_mpi.runs.records import read_records, to_line

SEGMENTS_FILE = "segments.jsonl"


class Segment(TypedDict, total=False):
    """A line of segments.jsonl."""

    date: str  # ISO 8601, UTC
    first_step: int
    ranks: int
    hosts: list[str]
    devices: list[str]
    threads: list[int]  # by rank
    versions: dict[str, str]
    state: str  # starting, running, done, or stopped and why
    last_step: int
    images: int  # of this start
    seconds: float  # since the process began
    seconds_to_start: float
    seconds_of_a_save: float
    node_hours: float


NEEDED = "date", "first_step", "ranks", "hosts"
# What a start has not said before its first status line.
FRESH: Segment = {"state": "starting", "last_step": 0, "seconds": 0.0, "node_hours": 0.0}


def append_segment(run_dir: Path, about: Segment) -> None:
    """Add the line of a new start.  Raises UserError."""
    append_line(run_dir / SEGMENTS_FILE, to_line(about))


def read_segments(run_dir: Path) -> list[Segment]:
    """Return the starts of a run, the first one first.  Raises UserError."""
    lines = read_records(run_dir / SEGMENTS_FILE, Segment, NEEDED)
    return [cast(Segment, {**FRESH, **each}) for each in lines]


def update_segment(run_dir: Path, **figures: Any) -> None:
    """Change what the last line says, that of this start.  Raises UserError."""
    *before, last = read_records(run_dir / SEGMENTS_FILE, Segment, NEEDED)
    changed = cast(Segment, {**last, **figures})
    lines = [to_line(about) + "\n" for about in (*before, changed)]
    write_aside(run_dir / SEGMENTS_FILE, "".join(lines).encode())
