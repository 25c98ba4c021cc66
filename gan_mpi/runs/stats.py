"""What is reported of a run: means since the last status line, the line, and stats.jsonl."""

import json
from pathlib import Path
from typing import Any

from gan_mpi.files import read_lines, write_aside

STATS_FILE = "stats.jsonl"


def read_stats(run_dir: Path) -> list[dict[str, Any]]:
    """Return the records of a run's stats.jsonl, without a last line cut off by a crash."""
    return read_lines(run_dir / STATS_FILE)


def forget_stats_after(run_dir: Path, step: int) -> None:
    """Drop the records of steps that a resumed run is going to do again."""
    kept = [record for record in read_stats(run_dir) if record["step"] <= step]
    text = "".join(json.dumps(record) + "\n" for record in kept)
    write_aside(run_dir / STATS_FILE, text.encode())


def duration(seconds: float) -> str:
    """Return seconds as 0:07, 12:34 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
