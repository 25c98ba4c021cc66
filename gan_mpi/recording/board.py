"""A copy of what is reported of a run for TensorBoard; stats.jsonl stays the source of truth."""

import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from gan_mpi.errors import UserError
from gan_mpi.runs.evaluations import Evaluation, by_name
from gan_mpi.runs.stats import StatsRecord, figures_of

FOLDER = "tensorboard"  # in the run directory
SCALARS = {
    "loss_G": "loss/generator",
    "loss_D": "loss/discriminator",
    "validation_G": "validation/generator",
    "validation_D": "validation/discriminator",
    "D_real": "score/reals",
    "D_fake": "score/fakes",
    "gradient_G": "gradient/generator",
    "gradient_D": "gradient/discriminator",
    "spread": "samples/spread",
    "images_per_second": "speed/images_per_second",
    "communication": "speed/communication",
}


class Board:
    """The event files of one run, written by root; of no folder, nothing."""

    def __init__(self, run_dir: Path | None, step: int = 0) -> None:
        """Write to a run directory, forgetting what an earlier start wrote after `step`.

        Raises UserError if tensorboard is not installed.
        """
        self._writer: Any = None
        if run_dir is not None:
            folder = str(run_dir / FOLDER)
            self._writer = _writer_class()(folder, purge_step=step + 1)

    def add_record(self, record: StatsRecord) -> None:
        """Add the figures of a record of stats.jsonl."""
        figures = figures_of(record)
        known = {SCALARS[k]: v for k, v in figures.items() if k in SCALARS}
        self._add(known, record["step"])

    def add_evaluation(self, record: Evaluation) -> None:
        """Add the figures of a record of metrics.jsonl, and its floor."""
        both = {"figures": by_name(record["figures"]), "floor": by_name(record["floor"])}
        numbers = {
            f"{kind}/{name}": value
            for kind, figures in both.items()
            for name, value in figures.items()
            if isinstance(value, float)
        }
        self._add(numbers, record["step"])

    def add_picture(self, name: str, png: bytes, step: int) -> None:
        """Add a PNG."""
        if self._writer is not None:
            from PIL import Image

            with Image.open(io.BytesIO(png)) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            with suppress(OSError):  # a copy, and training goes on without it
                self._writer.add_image(name, pixels, step, dataformats="HWC")
                self._writer.flush()

    def _add(self, numbers: Mapping[str, float], step: int) -> None:
        if self._writer is not None:
            with suppress(OSError):
                for name, value in numbers.items():
                    self._writer.add_scalar(name, value, step)
                self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()


def check_installed() -> None:
    """Raise UserError if tensorboard is not installed."""
    _writer_class()


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "--tensorboard: the package tensorboard is not installed; install "
            "'gan-mpi[tensorboard]'."
        ) from None
    return SummaryWriter
