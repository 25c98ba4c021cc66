"""The pictures of a run: samples, real images, and curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gan_mpi.datasets import drawn as points
from gan_mpi.drawing import pictures
from gan_mpi.drawing.charts import draw_losses, draw_points
from gan_mpi.drawing.samples import POINTS, generate, one_class_a_row
from gan_mpi.files import write_aside
from gan_mpi.recording.board import Board
from gan_mpi.runs import stats
from gan_mpi.runs.evaluations import comparable, read_evaluations
from gan_mpi.streams import DataOrder
from gan_mpi.training.state import RunState

REALS = "reals.png"


def default_grid(data: Mapping[str, Any]) -> str:
    """Return columns x rows of a picture: a row for each class, if samples have classes."""
    classes = len(data.get("label_counts", ()))
    return f"10x{classes}" if classes else "6x6"


class Gallery:
    """What is drawn into a run directory, by root."""

    def __init__(self, run_dir: Path, state: RunState, grid: tuple[int, int], board: Board) -> None:
        """`grid` is columns and rows of a picture of images; samples also go to `board`."""
        self.run_dir, self.state, self.grid, self.board = run_dir, state, grid, board
        self.draws_points = len(state.data["shape"]) == 1
        self.count = POINTS if self.draws_points else grid[0] * grid[1]

    def samples(self) -> None:
        """Draw the first seeds' samples at this step."""
        step = self.state.progress.step
        classes = len(self.state.data.get("label_counts", ()))
        made = generate(
            self.state.game.sampler,
            self.state.config,
            range(self.count),
            one_class_a_row(self.count, self.grid[0], range(classes)),
        )
        data = self._picture(f"fakes-{step:06d}.png", made)
        self.board.add_picture("samples", data, step)

    def reals(self, real: np.ndarray) -> None:
        """Draw the first of the data, as the run sees them."""
        order = DataOrder(self.state.config.seed, len(real))
        self._picture(REALS, real[order.indices(0, min(self.count, len(real)))])

    def curves(self) -> None:
        """Draw losses.png, if there is anything to draw."""
        config, records = self.state.config, stats.read_stats(self.run_dir)
        if not records:
            return
        title = f"{config.preset} on {self.state.data['name']}, seed {config.seed}"
        facts = pictures.provenance(self.state.to_dict())
        evaluations = comparable(read_evaluations(self.run_dir))
        if evaluations:
            facts["extractor"] = evaluations[-1]["extractor"]["sha256"]
        picture = draw_losses(records, evaluations, title, facts)
        write_aside(self.run_dir / "losses.png", picture)

    def _picture(self, name: str, samples: np.ndarray) -> bytes:
        facts = pictures.provenance(self.state.to_dict())
        if self.draws_points:
            title = f"{name.removesuffix('.png')}, {len(samples)} points"
            generated = None if name == REALS else samples
            data = draw_points(points.draw_points(POINTS), generated, title, facts)
        else:
            data = pictures.png(pictures.grid(samples, *self.grid), facts)
        write_aside(self.run_dir / name, data)
        return data
