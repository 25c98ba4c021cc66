"""The starts of a run, one line each in its segments.jsonl: where it ran, how far it got."""

import json
from pathlib import Path
from typing import Any

from gan_mpi.files import append_line, read_lines, write_aside

SEGMENTS_FILE = "segments.jsonl"
# What a start has not said before its first status line.
FRESH = {"state": "starting", "last_step": 0, "seconds": 0.0, "node_hours": 0.0}


def append_segment(run_dir: Path, about: dict[str, Any]) -> None:
    """Add the line of a new start.  Raises UserError."""
    append_line(run_dir / SEGMENTS_FILE, json.dumps(about))


def read_segments(run_dir: Path) -> list[dict[str, Any]]:
    """Return the starts of a run, the first one first.  Raises UserError."""
    return [{**FRESH, **each} for each in read_lines(run_dir / SEGMENTS_FILE)]


def update_segment(run_dir: Path, **figures: Any) -> None:
    """Change what the last line says, that of this start.  Raises UserError."""
    *before, last = read_lines(run_dir / SEGMENTS_FILE)
    lines = [json.dumps(about) + "\n" for about in (*before, {**last, **figures})]
    write_aside(run_dir / SEGMENTS_FILE, "".join(lines).encode())
