"""Draw images of a trained generator by seed, on one rank or many."""

import io
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from gan_mpi import checkpoint, images
from gan_mpi.comm import Communicator
from gan_mpi.config import config_from_dict
from gan_mpi.errors import UserError, reason
from gan_mpi.files import write_aside
from gan_mpi.networks import build_generator
from gan_mpi.prepare import DTYPES
from gan_mpi.rundir import newest_run
from gan_mpi.sampling import CHUNK, generate

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
    path, state = comm.on_root(lambda: find_checkpoint(source, step))
    if seeds is None:
        columns, rows = grid or DEFAULT_GRID
        seeds = list(range(columns * rows))
    pixels = _draw_together(comm, state, seeds)
    target = out or Path(DEFAULT_OUT[file_format])
    facts = images.provenance(state)

    def write() -> None:
        if file_format == "png":
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
        sys.stdout.write(f"{target}: {len(seeds)} image(s) from {path}\n")
    return 0


def find_checkpoint(
    source: Path | None, step: int | None
) -> tuple[Path, dict[str, Any]]:
    """Return the checkpoint file meant, and its state.

    Raises UserError, naming the file and what is wrong with it.
    """
    run_dir = newest_run(Path("runs")) if source is None else source
    if run_dir.is_dir():
        if step is None:
            return checkpoint.newest_valid(run_dir, _warn)
        path = checkpoint.checkpoint_path(run_dir, step)
        if not path.exists():
            steps = ", ".join(
                str(step) for step, _ in checkpoint.list_checkpoints(run_dir)
            )
            raise UserError(
                f"Invalid value for '--checkpoint': {run_dir} holds no step {step}, but "
                f"{steps or 'none at all'}.",
                exit_code=2,
            )
        return path, checkpoint.read_checkpoint(path)
    if not run_dir.exists():
        raise UserError(f"there is no run or checkpoint '{run_dir}'.", exit_code=2)
    return run_dir, checkpoint.read_checkpoint(run_dir)


def _warn(text: str) -> None:
    sys.stderr.write(f"Warning: {text}\n")


def load_generator(state: dict[str, Any]) -> nn.Module:
    """Return the generator of a checkpoint's state, on the CPU."""
    config = config_from_dict(state["config"])
    shape = tuple(state["data"]["image_shape"])
    generator = build_generator(config.latent_dim, shape, config.seed)
    generator.to(DTYPES[config.precision]).load_state_dict(state["G"])
    return generator


def _draw_together(
    comm: Communicator, state: dict[str, Any], seeds: list[int]
) -> np.ndarray:
    """Return all images, uint8 (N, C, H, W), on root; each rank draws whole chunks.  Collective."""
    generator = load_generator(state)
    chunks = sorted({seed // CHUNK for seed in seeds})
    mine = set(chunks[comm.rank :: comm.world_size])
    wanted = sorted({seed for seed in seeds if seed // CHUNK in mine})
    drawn = {}
    if wanted:
        latent_dim = state["config"]["latent_dim"]
        drawn = dict(zip(wanted, generate(generator, latent_dim, wanted), strict=True))
    everyone: dict[int, np.ndarray] = {}
    for part in comm.gather(drawn):
        everyone |= part
    return np.stack([everyone[seed] for seed in seeds]) if comm.is_root else np.empty(0)


def _nearly_square(count: int) -> tuple[int, int]:
    columns = math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)


def _npz(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images.channels_last(pixels))
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: cannot make {path.parent}: {reason(error)}.") from None
    write_aside(path, data)
