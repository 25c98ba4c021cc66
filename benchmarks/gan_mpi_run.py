"""gan-mpi as a contestant: its own command, and the times that it writes down itself."""

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from contest import call, ranks

WARM = 0.2  # share of the records that do not count


def gan_mpi(
    preset: str, batch: int, count: int, datadir: str | None, tree: Path, more: list[str]
) -> Callable[[int], float]:
    """Return what trains a preset by the program in `tree`; `datadir` None means 2,000 glyphs."""
    data = ["--glyphs", "2000"] if datadir is None else ["--datadir", datadir]

    def run(steps: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            run_dir = f"{folder}/run"
            options = ["--preset", preset, "--batch", str(batch), "--steps", str(steps)]
            options += ["--checkpoint-every", str(steps), "--run-dir", run_dir, "--quiet"]
            program = [sys.executable, "-m", "gan_mpi", "train", *options, *data, *more]
            path = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])
            call([*ranks(count), *program], PYTHONPATH=path, PYTHONSAFEPATH="1")
            lines = Path(run_dir, "stats.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        counted = records[int(WARM * len(records)) :]
        return statistics.median(record["seconds_per_step"] for record in counted)

    return run
