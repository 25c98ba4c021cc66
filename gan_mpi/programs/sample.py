"""Draw images of a trained generator by seed, on one rank or many."""

import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from gan_mpi.config.resolve import config_from_dict
from gan_mpi.datasets import drawn as points
from gan_mpi.drawing import pictures
from gan_mpi.drawing.charts import draw_points
from gan_mpi.drawing.generator import load_generator
from gan_mpi.drawing.samples import (
    CHUNK,
    POINTS,
    check_classes,
    generate,
    one_class_a_row,
)
from gan_mpi.errors import UserError, reason
from gan_mpi.files import write_aside
from gan_mpi.mpi.comm import Communicator
from gan_mpi.runs import checkpoint
from gan_mpi.runs.directory import newest_run

DEFAULT_GRID = (6, 6)
CLASS_COLUMNS = 10  # samples of a class in a picture
DEFAULT_OUT = {"png": "samples.png", "npz": "samples.npz", "pngs": "samples"}


def sample(
    comm: Communicator,
    source: Path | None,
    step: int | None,
    seeds: list[int] | None,
    grid: tuple[int, int] | None,
    file_format: str,
    out: Path | None,
    classes: Sequence[int] | None = None,
    averaged: bool = True,
) -> int:
    """Draw `seeds` from a run or checkpoint file and write them; return the exit code.

    Row by row they are of one of `classes`, of all in turn if it is None.  `file_format` is png
    (one picture of grid columns x rows), npz or pngs.  Raises UserError. Collective.
    """
    path, state = comm.on_root(
        lambda: checkpoint.find_checkpoint(source or newest_run(Path("runs")), step, _warn)
    )
    are_points = len(state["data"]["shape"]) == 1
    if are_points and (grid or file_format == "pngs"):
        raise UserError(
            f"{path} draws points, which go to one picture or an array: leave out --grid and "
            "--format pngs.",
            exit_code=2,
            on_all_ranks=True,
        )
    known = len(state["data"].get("label_counts", ()))
    check_classes(path, state["data"], classes or [])
    classes = range(known) if classes is None else classes
    if seeds is None:
        default = (CLASS_COLUMNS, len(classes)) if known else DEFAULT_GRID
        grid = grid or (None if are_points else default)
        seeds = list(range(POINTS if grid is None else grid[0] * grid[1]))
    columns = grid[0] if grid else CLASS_COLUMNS if known else 0
    labels = one_class_a_row(len(seeds), columns, classes)
    pixels = _draw_together(comm, load_generator(state, averaged), state, seeds, labels)
    target = out or Path(DEFAULT_OUT[file_format])
    facts = pictures.provenance(state)

    def write() -> None:
        if file_format == "png" and are_points:
            title = f"{len(seeds)} points"
            real = points.draw_points(POINTS)
            _write(target, draw_points(real, pixels, title, facts))
        elif file_format == "png":
            size = grid or _nearly_square(len(seeds), columns)
            _write(target, pictures.png(pictures.grid(pixels, *size), facts))
        elif file_format == "npz":
            _write(target, _npz(pixels, labels))
        else:
            for n, image in enumerate(pictures.channels_last(pixels)):
                about, name = {**facts, "sample": seeds[n]}, f"seed{seeds[n]:06d}"
                if labels:
                    about["class"], name = labels[n], f"{name}-class{labels[n]}"
                png = pictures.png(Image.fromarray(image), about)
                _write(target / f"{name}.png", png)

    comm.on_root(write)
    if comm.is_root:
        what = "points" if are_points else "image(s)"
        sys.stdout.write(f"{target}: {len(seeds)} {what} from {path}\n")
    return 0


def _warn(text: str) -> None:
    sys.stderr.write(f"Warning: {text}\n")


def _draw_together(
    comm: Communicator,
    generator: nn.Module,
    state: dict[str, Any],
    seeds: list[int],
    labels: list[int] | None,
) -> np.ndarray:
    """Return all images, uint8 (N, C, H, W), on root; each rank draws whole chunks.  Collective."""
    chunks = sorted({seed // CHUNK for seed in seeds})
    mine = set(chunks[comm.rank :: comm.world_size])
    places = [n for n, seed in enumerate(seeds) if seed // CHUNK in mine]
    config = config_from_dict(state["config"])

    def draw() -> dict[int, np.ndarray]:
        if not places:
            return {}
        wanted = [seeds[n] for n in places]
        classes = None if labels is None else [labels[n] for n in places]
        return dict(zip(places, generate(generator, config, wanted, classes), strict=True))

    drawn = comm.agree(draw)
    everyone: dict[int, np.ndarray] = {}
    for part in comm.gather(drawn):
        everyone |= part
    if not comm.is_root:
        return np.empty(0)
    return np.stack([everyone[n] for n in range(len(seeds))])


def _nearly_square(count: int, columns: int) -> tuple[int, int]:
    columns = columns or math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)


def _npz(pixels: np.ndarray, labels: list[int] | None) -> bytes:
    buffer = io.BytesIO()
    made = pictures.channels_last(pixels) if pixels.ndim == 4 else pixels
    if labels is None:
        np.savez_compressed(buffer, images=made)
    else:
        np.savez_compressed(buffer, images=made, labels=np.array(labels, np.uint8))
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: cannot make {path.parent}: {reason(error)}.") from None
    write_aside(path, data)
