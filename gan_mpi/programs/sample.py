"""Draw images of a trained generator by seed, on one rank or many."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gan_mpi.config.values import MOST_TILES
from gan_mpi.datasets.drawn import draw_points as draw_real_points
from gan_mpi.drawing import pictures
from gan_mpi.drawing.charts import draw_points
from gan_mpi.drawing.generator import SavedGenerator, find_generator
from gan_mpi.drawing.samples import (
    CHUNK,
    POINTS,
    each_class,
    fill_grid,
    find_classes,
    generate,
    row_names,
    usual_grid,
)
from gan_mpi.errors import UserError
from gan_mpi.files import write_output
from gan_mpi.mpi.comm import Communicator
from gan_mpi.runs.log import say

WIDEST = 20  # columns, unless they are asked for
DEFAULT_OUT = {"png": "samples.png", "npz": "samples.npz", "pngs": "samples"}


def sample(
    comm: Communicator,
    source: Path | None,
    step: int | None,
    seeds: list[int] | None,
    grid: tuple[int, int] | None,
    picture_format: str,
    out: Path | None,
    classes: Sequence[str] | None = None,
    ema: bool = True,
) -> int:
    """Draw `seeds` from a run or checkpoint file and write them; return the exit code.

    Of a generator that is given labels every seed is drawn of each of `classes`, names or numbers,
    of all if it is None.  `picture_format` is png (one picture of grid columns x rows), npz or
    pngs.  Raises UserError.  Collective.
    """
    trained = comm.on_root(lambda: find_generator(source, step, ema))
    plan = comm.alike(lambda: _plan(trained, seeds, grid, picture_format, classes))
    samples = _draw_together(comm, trained, plan)
    target = out or Path(DEFAULT_OUT[picture_format])
    comm.on_root(lambda: _write(Drawn(samples, plan, trained), picture_format, target))
    if comm.is_root:
        what = "points" if trained.data.are_points else "image(s)"
        say(f"{target}: {len(plan.seeds)} {what} from {trained.path}")
    return 0


@dataclass(frozen=True)
class Plan:
    """The seed of each sample, its label if there are such, and where it stands in a picture."""

    seeds: list[int]
    labels: list[int] | None
    grid: tuple[int, int]  # columns and rows
    run: int = 0  # samples after which a new row begins


def _plan(
    trained: SavedGenerator,
    seeds: list[int] | None,
    grid: tuple[int, int] | None,
    picture_format: str,
    asked: Sequence[str] | None,
) -> Plan:
    """Return what is drawn.  Raises UserError if it does not fit together, or is unknown."""
    if trained.data.are_points and (grid or picture_format == "pngs"):
        raise UserError(
            f"{trained.path} draws points, which go to one picture or an array: leave out --grid "
            "and --format pngs.",
            exit_code=2,
        )
    classes = find_classes(trained, asked)
    plan = _without_classes(trained, seeds, grid) if not classes else None
    plan = plan or _of_classes(seeds, grid, classes)
    columns, rows = plan.grid
    if picture_format == "png" and not trained.data.are_points and columns * rows > MOST_TILES:
        raise UserError(
            f"--seeds: a picture of {columns}x{rows} is more than {MOST_TILES} images; --format "
            "npz holds as many as there is memory for.",
            exit_code=2,
        )
    return plan


def _without_classes(
    trained: SavedGenerator, seeds: list[int] | None, grid: tuple[int, int] | None
) -> Plan:
    if seeds is None:
        grid = grid or (None if trained.data.are_points else usual_grid(0))
        seeds = list(range(POINTS if grid is None else grid[0] * grid[1]))
    return Plan(seeds, None, grid or _nearly_square(len(seeds)))


def _of_classes(
    seeds: list[int] | None, grid: tuple[int, int] | None, classes: Sequence[int]
) -> Plan:
    """Return every class with every seed: one class a row, one latent a column."""
    if seeds is None:
        columns, rows = grid or usual_grid(len(classes))
        _require_rows(grid, rows, len(classes))
        return Plan(*fill_grid(columns, rows, classes), (columns, rows))
    columns = grid[0] if grid else min(len(seeds), WIDEST)
    rows = -(-len(seeds) // columns) * len(classes)
    if grid:
        _require_rows(grid, grid[1], rows)
    return Plan(*each_class(seeds, classes), grid or (columns, rows), len(seeds))


def _require_rows(grid: tuple[int, int] | None, rows: int, needed: int) -> None:
    if grid and rows < needed:
        raise UserError(
            f"--grid: {grid[0]}x{grid[1]} has {rows} rows, and the classes take {needed}; give "
            f"{grid[0]}x{needed}, or fewer classes with --class.",
            exit_code=2,
        )


@dataclass(frozen=True)
class Drawn:
    """Samples, uint8 (N, C, H, W) or float64 (N, d), as planned, and what drew them."""

    samples: np.ndarray
    plan: Plan
    trained: SavedGenerator


def _write(drawn: Drawn, picture_format: str, target: Path) -> None:
    """Write samples as a picture (png), an array (npz) or a picture each (pngs)."""
    facts = drawn.trained.facts
    if picture_format == "npz":
        write_output(target, _npz(drawn), "--out")
    elif picture_format == "pngs":
        for name, png in _one_by_one(drawn):
            write_output(target / name, png, "--out")
    elif drawn.trained.data.are_points:
        real, title = draw_real_points(POINTS), f"{len(drawn.samples)} points"
        picture = draw_points(real, drawn.samples, title, facts)
        write_output(target, picture, "--out")
    else:
        plan = drawn.plan
        names = row_names(drawn.trained.data, plan.labels, plan.grid[0], plan.run)
        tiles = pictures.grid(drawn.samples, *plan.grid, names, plan.run)
        write_output(target, pictures.png(tiles, facts), "--out")


def _one_by_one(drawn: Drawn) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the PNG of each sample."""
    plan, facts = drawn.plan, drawn.trained.facts
    for n, image in enumerate(pictures.channels_last(drawn.samples)):
        about, name = {**facts, "sample": plan.seeds[n]}, f"seed{plan.seeds[n]:06d}"
        if plan.labels:
            label = plan.labels[n]
            about["class"] = drawn.trained.data.class_name(label)
            name = f"{name}-class{label}"
        yield f"{name}.png", pictures.png(Image.fromarray(image), about)


def _draw_together(comm: Communicator, trained: SavedGenerator, plan: Plan) -> np.ndarray:
    """Return all images, uint8 (N, C, H, W), on root; each rank draws whole chunks.  Collective."""
    seeds, labels = plan.seeds, plan.labels
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


def _nearly_square(count: int) -> tuple[int, int]:
    columns = math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)


def _npz(drawn: Drawn) -> bytes:
    pixels, labels = drawn.samples, drawn.plan.labels
    arrays = {"images": pictures.channels_last(pixels) if pixels.ndim == 4 else pixels}
    if labels is not None:
        arrays["labels"] = np.array(labels, np.uint8)
        if names := drawn.trained.data.class_names:
            arrays["class_names"] = np.array(names)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
