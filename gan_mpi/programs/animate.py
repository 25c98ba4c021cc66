"""Moving pictures: from one latent to another, and from one checkpoint to the next."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.Image import Resampling

from gan_mpi.drawing import pictures
from gan_mpi.drawing.generator import SavedGenerator, find_generator, read_generator
from gan_mpi.drawing.pictures import gif
from gan_mpi.drawing.samples import (
    draw_chunk,
    fill_grid,
    find_classes,
    generate,
    in_chunks,
    row_names,
    sample_inputs,
    sample_labels,
    usual_grid,
)
from gan_mpi.errors import UserError
from gan_mpi.files import make_place, write_aside
from gan_mpi.mpi.comm import Communicator
from gan_mpi.runs import checkpoint
from gan_mpi.runs.directory import list_checkpoints
from gan_mpi.runs.find import newest_trained
from gan_mpi.runs.log import say

STEP_TIME, FRAME_TIME = 300, 60  # milliseconds of a checkpoint's and of another frame
COLUMNS = 12  # of a strip
ENLARGED = 4  # times, a single image in a GIF


def interpolate(
    comm: Communicator,
    source: Path | None,
    step: int | None,
    ends: tuple[int, int],
    frames: int,
    out: Path,
    asked: str | None = None,
    ema: bool = True,
) -> int:
    """Draw the way from one seed's image to another's, as a GIF or, if `out` is a PNG, a strip.

    Normal latents are joined on a great circle, others on a line; dropout stays that of the first,
    and so does the label where none is given.  Raises UserError.  Collective.
    """
    trained = comm.on_root(lambda: find_generator(source, step, ema))
    comm.alike(lambda: _require_images(trained))
    comm.on_root(lambda: make_place(out, "--out"))
    label = None if asked is None else comm.alike(lambda: _one_class(trained, asked))
    config, generator = trained.config, comm.alike(trained.build)
    one, other = (sample_inputs(generator, config, seed, seed + 1)[0] for seed in ends)
    width = config.latent_dim
    along = between(one[:width], other[:width], frames, spherical=config.latents != "uniform")
    inputs = np.hstack([along, np.tile(one[width:], (frames, 1))])
    if label is None:
        (label,) = sample_labels(generator, ends[0], ends[0] + 1)
    labels = np.full(frames, label)

    def draw(first: int, last: int) -> tuple[np.ndarray]:
        part = slice(first, last)
        return (draw_chunk(generator, config, inputs[part], labels[part]),)

    (pixels,) = in_chunks(comm, frames, draw)
    facts = {**trained.facts, "interpolation": f"{ends[0]}:{ends[1]}"}
    of_class = f" of class {trained.data.class_name(label)}" if trained.data.classes else ""

    def write() -> None:
        if out.suffix.lower() == ".png":
            columns = min(frames, COLUMNS)
            strip = pictures.grid(pixels, columns, -(-frames // columns))
            write_aside(out, pictures.png(strip, facts))
        else:
            tiles = (pictures.grid(pixel[None], 1, 1) for pixel in pixels)
            frames_drawn = [ImageOps.scale(tile, ENLARGED, Resampling.NEAREST) for tile in tiles]
            write_aside(out, gif(frames_drawn, FRAME_TIME, facts))

    comm.on_root(write)
    if comm.is_root:
        say(f"{out}: seed {ends[0]} to {ends[1]}{of_class} in {frames} frames")
    return 0


def between(one: np.ndarray, other: np.ndarray, count: int, spherical: bool) -> np.ndarray:
    """Return `count` > 1 points from `one` to `other` (d,), on a line or a great circle.

    Spherical: Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985; the length of
    the vectors changes evenly.  Of latents in many dimensions those between two on a line would
    be shorter than any that the generator has seen.
    """
    at = np.linspace(0.0, 1.0, count)[:, None]
    lengths = np.linalg.norm(one), np.linalg.norm(other)
    cosine = one @ other / (lengths[0] * lengths[1])
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if not spherical or np.sin(angle) < 1e-6:
        return (1.0 - at) * one + at * other
    weights = np.sin((1.0 - at) * angle), np.sin(at * angle)
    unit = (weights[0] * one / lengths[0] + weights[1] * other / lengths[1]) / np.sin(angle)
    return unit * ((1.0 - at) * lengths[0] + at * lengths[1])


def timelapse(
    comm: Communicator,
    run: Path | None,
    grid: tuple[int, int] | None,
    out: Path,
    ema: bool = True,
) -> int:
    """Draw the same latents by every checkpoint of a run, as a GIF.  Raises UserError.  Collective.

    Each rank draws some of the checkpoints, in a grid of so many columns and rows.
    """
    run_dir, paths = comm.on_root(lambda: _all_checkpoints(run))
    comm.on_root(lambda: make_place(out, "--out"))
    mine = comm.agree(
        lambda: {
            number: _grid_of(paths[number], grid, ema)
            for number in range(comm.rank, len(paths), comm.world_size)
        }
    )
    drawn = {number: frame for part in comm.gather(mine) for number, frame in part.items()}

    def write() -> None:
        frames = [drawn[number][0] for number in range(len(paths))]
        write_aside(out, gif(frames, STEP_TIME, drawn[len(paths) - 1][1]))

    comm.on_root(write)
    if comm.is_root:
        say(f"{out}: {len(paths)} checkpoints of {run_dir}")
    return 0


def _all_checkpoints(run: Path | None) -> tuple[Path, list[Path]]:
    run_dir = run or newest_trained()
    if not run_dir.is_dir():
        raise UserError(f"--timelapse: '{run_dir}' is not a run directory.", exit_code=2)
    paths = [path for _, path in reversed(list_checkpoints(run_dir))]
    if len(paths) < 2:
        raise UserError(
            f"--timelapse: {run_dir} holds {len(paths)} checkpoint(s), and it takes two; "
            "gan-mpi train --keep all keeps every one."
        )
    return run_dir, paths


def _grid_of(path: Path, asked: tuple[int, int] | None, ema: bool) -> tuple[Image.Image, dict]:
    trained = read_generator(path, checkpoint.read_checkpoint(path), ema)
    _require_images(trained)
    classes = find_classes(trained, None)
    grid = asked or usual_grid(len(classes))
    seeds, labels = fill_grid(*grid, classes)
    pixels = generate(trained.build(), trained.config, seeds, labels)
    names = row_names(trained.data, labels, grid[0])
    return pictures.grid(pixels, *grid, names), trained.facts


def _one_class(trained: SavedGenerator, asked: str) -> int:
    label, *more = find_classes(trained, [asked])
    if more:
        raise UserError(
            f"--class: {asked} is {len(more) + 1} classes, and --interpolate draws one.",
            exit_code=2,
        )
    return label


def _require_images(trained: SavedGenerator) -> None:
    if trained.data.are_points:
        raise UserError(
            f"{trained.path} draws points, of which there are no moving pictures.", exit_code=2
        )
