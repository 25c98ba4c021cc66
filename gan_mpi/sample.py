"""Draw images of a trained generator by seed, on one rank or many."""

import io
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gan_mpi import checkpoint, images
from gan_mpi.charts import draw_points
from gan_mpi.comm import Communicator
from gan_mpi.configure import config_from_dict
from gan_mpi.datasets import points
from gan_mpi.errors import UserError, reason
from gan_mpi.files import write_aside
from gan_mpi.prepare import load_generator
from gan_mpi.rundir import newest_run
from gan_mpi.sampling import CHUNK, POINTS, generate

DEFAULT_GRID = (6, 6)
DEFAULT_OUT = {"png": "samples.png", "npz": "samples.npz", "pngs": "samples"}


def sample(
    comm: Communicator,
    source: Path | None,
    step: int | None,
    seeds: list[int] | None,
    grid: tuple[int, int] | None,
    file_format: str,
    out: Path | None,
) -> int:
    """Draw `seeds` from a run or checkpoint file and write them; return the exit code.

    `file_format` is png (one picture of grid columns x rows), npz or pngs.  Raises UserError.
    Collective.
    """
    path, state = comm.on_root(
        lambda: checkpoint.find_checkpoint(
            source or newest_run(Path("runs")), step, _warn
        )
    )
    are_points = len(state["data"]["shape"]) == 1
    if are_points and (grid or file_format == "pngs"):
        raise UserError(
            f"{path} draws points, which go to one picture or an array: leave out --grid and "
            "--format pngs.",
            exit_code=2,
            on_all_ranks=True,
        )
    if seeds is None:
        columns, rows = grid or DEFAULT_GRID
        seeds = list(range(POINTS if are_points else columns * rows))
    pixels = _draw_together(comm, state, seeds)
    target = out or Path(DEFAULT_OUT[file_format])
    facts = images.provenance(state)

    def write() -> None:
        if file_format == "png" and are_points:
            title = f"{len(seeds)} points"
            real = points.draw_points(POINTS)
            _write(target, draw_points(real, pixels, title, facts))
        elif file_format == "png":
            size = grid or _nearly_square(len(seeds))
            _write(target, images.png(images.grid(pixels, *size), facts))
        elif file_format == "npz":
            _write(target, _npz(pixels))
        else:
            for seed, image in zip(seeds, images.channels_last(pixels), strict=True):
                png = images.png(Image.fromarray(image), {**facts, "sample": seed})
                _write(target / f"seed{seed:06d}.png", png)

    comm.on_root(write)
    if comm.is_root:
        what = "points" if are_points else "image(s)"
        sys.stdout.write(f"{target}: {len(seeds)} {what} from {path}\n")
    return 0


def _warn(text: str) -> None:
    sys.stderr.write(f"Warning: {text}\n")


def _draw_together(
    comm: Communicator, state: dict[str, Any], seeds: list[int]
) -> np.ndarray:
    """Return all images, uint8 (N, C, H, W), on root; each rank draws whole chunks.  Collective."""
    generator = load_generator(state)
    chunks = sorted({seed // CHUNK for seed in seeds})
    mine = set(chunks[comm.rank :: comm.world_size])
    wanted = sorted({seed for seed in seeds if seed // CHUNK in mine})
    config = config_from_dict(state["config"])

    def draw() -> dict[int, np.ndarray]:
        if not wanted:
            return {}
        return dict(zip(wanted, generate(generator, config, wanted), strict=True))

    drawn = comm.agree(draw)
    everyone: dict[int, np.ndarray] = {}
    for part in comm.gather(drawn):
        everyone |= part
    return np.stack([everyone[seed] for seed in seeds]) if comm.is_root else np.empty(0)


def _nearly_square(count: int) -> tuple[int, int]:
    columns = math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)


def _npz(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, images=images.channels_last(pixels) if pixels.ndim == 4 else pixels
    )
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: cannot make {path.parent}: {reason(error)}.") from None
    write_aside(path, data)
