"""Draw images of a trained generator by seed, on one rank or many."""

import io
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gan_mpi.datasets.drawn import draw_points as draw_real_points
from gan_mpi.drawing import pictures
from gan_mpi.drawing.charts import draw_points
from gan_mpi.drawing.generator import SavedGenerator, find_generator
from gan_mpi.drawing.samples import (
    CHUNK,
    POINTS,
    check_classes,
    generate,
    one_class_a_row,
)
from gan_mpi.errors import UserError
from gan_mpi.files import write_output
from gan_mpi.mpi.comm import Communicator

DEFAULT_GRID = (6, 6)
CLASS_COLUMNS = 10  # samples of a class in a picture
DEFAULT_OUT = {"png": "samples.png", "npz": "samples.npz", "pngs": "samples"}


def sample(
    comm: Communicator,
    source: Path | None,
    step: int | None,
    seeds: list[int] | None,
    grid: tuple[int, int] | None,
    picture_format: str,
    out: Path | None,
    classes: Sequence[int] | None = None,
    ema: bool = True,
) -> int:
    """Draw `seeds` from a run or checkpoint file and write them; return the exit code.

    Row by row they are of one of `classes`, of all in turn if it is None.  `picture_format` is png
    (one picture of grid columns x rows), npz or pngs.  Raises UserError.  Collective.
    """
    trained = comm.on_root(lambda: find_generator(source, step, ema))
    data = trained.data
    comm.alike(lambda: _check(trained, grid, picture_format, classes or []))
    classes = range(data.classes) if classes is None else classes
    if seeds is None:
        default = (CLASS_COLUMNS, len(classes)) if data.classes else DEFAULT_GRID
        grid = grid or (None if data.are_points else default)
        seeds = list(range(POINTS if grid is None else grid[0] * grid[1]))
    columns = grid[0] if grid else CLASS_COLUMNS if data.classes else 0
    labels = one_class_a_row(len(seeds), columns, classes)
    samples = _draw_together(comm, trained, seeds, labels)
    target = out or Path(DEFAULT_OUT[picture_format])
    size = grid or _nearly_square(len(seeds), columns)
    drawn = Drawn(samples, seeds, labels, size, trained.facts)
    comm.on_root(lambda: _write(drawn, picture_format, target, data.are_points))
    if comm.is_root:
        what = "points" if data.are_points else "image(s)"
        sys.stdout.write(f"{target}: {len(seeds)} {what} from {trained.path}\n")
    return 0


def _check(
    trained: SavedGenerator,
    grid: tuple[int, int] | None,
    picture_format: str,
    classes: Sequence[int],
) -> None:
    if trained.data.are_points and (grid or picture_format == "pngs"):
        raise UserError(
            f"{trained.path} draws points, which go to one picture or an array: leave out --grid "
            "and --format pngs.",
            exit_code=2,
        )
    check_classes(trained, classes)


@dataclass(frozen=True)
class Drawn:
    """Samples, uint8 (N, C, H, W) or float64 (N, d), with their seeds and labels, if any."""

    samples: np.ndarray
    seeds: Sequence[int]
    labels: Sequence[int] | None
    grid: tuple[int, int]  # columns and rows
    facts: Mapping[str, object]  # about what made them


def _write(drawn: Drawn, picture_format: str, target: Path, are_points: bool) -> None:
    """Write samples as a picture (png), an array (npz) or a picture each (pngs)."""
    if picture_format == "npz":
        write_output(target, _npz(drawn.samples, drawn.labels), "--out")
    elif picture_format == "pngs":
        for name, png in _one_by_one(drawn):
            write_output(target / name, png, "--out")
    elif are_points:
        real, title = draw_real_points(POINTS), f"{len(drawn.samples)} points"
        picture = draw_points(real, drawn.samples, title, drawn.facts)
        write_output(target, picture, "--out")
    else:
        picture = pictures.png(pictures.grid(drawn.samples, *drawn.grid), drawn.facts)
        write_output(target, picture, "--out")


def _one_by_one(drawn: Drawn) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the PNG of each sample."""
    for n, image in enumerate(pictures.channels_last(drawn.samples)):
        about, name = {**drawn.facts, "sample": drawn.seeds[n]}, f"seed{drawn.seeds[n]:06d}"
        if drawn.labels:
            about["class"], name = drawn.labels[n], f"{name}-class{drawn.labels[n]}"
        yield f"{name}.png", pictures.png(Image.fromarray(image), about)


def _draw_together(
    comm: Communicator,
    trained: SavedGenerator,
    seeds: list[int],
    labels: list[int] | None,
) -> np.ndarray:
    """Return all images, uint8 (N, C, H, W), on root; each rank draws whole chunks.  Collective."""
    chunks = sorted({seed // CHUNK for seed in seeds})
    mine = set(chunks[comm.rank :: comm.world_size])
    places = [n for n, seed in enumerate(seeds) if seed // CHUNK in mine]
    generator = comm.alike(trained.build)

    def draw() -> dict[int, np.ndarray]:
        if not places:
            return {}
        wanted = [seeds[n] for n in places]
        classes = None if labels is None else [labels[n] for n in places]
        return dict(zip(places, generate(generator, trained.config, wanted, classes), strict=True))

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


def _npz(pixels: np.ndarray, labels: Sequence[int] | None) -> bytes:
    buffer = io.BytesIO()
    images = pictures.channels_last(pixels) if pixels.ndim == 4 else pixels
    if labels is None:
        np.savez_compressed(buffer, images=images)
    else:
        np.savez_compressed(buffer, images=images, labels=np.array(labels, np.uint8))
    return buffer.getvalue()
