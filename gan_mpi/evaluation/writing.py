"""An evaluation, written and drawn."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gan_mpi.drawing import pictures
from gan_mpi.files import append_line, write_aside
from gan_mpi.runs.evaluations import METRICS_FILE, Evaluation
from gan_mpi.runs.records import to_line

PAIRS = 9  # samples shown with their nearest training images


def write_evaluation(
    run_dir: Path,
    evaluation: Evaluation,
    pairs: np.ndarray,
    facts: Mapping[str, object],
) -> None:
    """Append an evaluation to metrics.jsonl, and draw its samples nearest to training images.

    `pairs` are uint8 (2, n, C, H, W); points (2, n, d) are not drawn.  `facts` go into the PNG.
    """
    append_line(run_dir / METRICS_FILE, to_line(evaluation))
    if pairs.ndim == 5:
        shown = pairs[:, :PAIRS]
        extractor = {"extractor": evaluation["extractor"]["sha256"]}
        picture = pictures.grid(np.concatenate(shown), shown.shape[1], 2)
        target = run_dir / f"nearest-{evaluation['step']:06d}.png"
        write_aside(target, pictures.png(picture, {**facts, **extractor}))
