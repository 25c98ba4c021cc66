"""The pictures of a run: samples, real images, and curves."""

from collections.abc import Sequence

import numpy as np

from gan_mpi.config.values import grid_size
from gan_mpi.datasets.drawn import draw_points as draw_real_points
from gan_mpi.drawing import pictures
from gan_mpi.drawing.charts import draw_losses, draw_points
from gan_mpi.drawing.samples import POINTS, fill_grid, generate, row_names
from gan_mpi.files import write_aside
from gan_mpi.recording.board import Board
from gan_mpi.runs import stats
from gan_mpi.runs.evaluations import comparable, read_evaluations
from gan_mpi.streams import DataOrder
from gan_mpi.training.run import Run

REALS = "reals.png"


def default_grid(classes: int) -> str:
    """Return columns x rows of a picture: a row for each class, if samples have classes."""
    return f"10x{classes}" if classes else "6x6"


class Gallery:
    """What is drawn into a run directory, by root."""

    def __init__(self, run: Run, board: Board) -> None:
        """Samples also go to `board`."""
        self.run, self.board, data = run, board, run.state.data
        self.grid = grid_size(run.options.grid or default_grid(data.classes))
        self.count = POINTS if data.are_points else self.grid[0] * self.grid[1]

    def samples(self) -> None:
        """Draw the first seeds' samples at this step."""
        state = self.run.state
        data, columns = state.data, self.grid[0]
        if data.are_points:
            seeds, labels = list(range(self.count)), None
        else:
            classes = [label for label, count in enumerate(data.label_counts) if count]
            seeds, labels = fill_grid(*self.grid, classes)
        samples = generate(state.sampler, state.config, seeds, labels)
        names = row_names(data, labels, columns)
        picture = self._picture(f"fakes-{state.progress.step:06d}.png", samples, names)
        self.board.add_picture("samples", picture, state.progress.step)

    def reals(self) -> None:
        """Draw the first of the data, as the run sees them."""
        real = self.run.dataset.images
        order = DataOrder(self.run.state.config.seed, len(real))
        self._picture(REALS, real[order.indices(0, min(self.count, len(real)))])

    def curves(self) -> None:
        """Draw losses.png, if there is anything to draw."""
        state, directory = self.run.state, self.run.directory
        records = stats.read_stats(directory)
        if not records:
            return
        title = f"{state.config.preset} on {state.data.name}, seed {state.config.seed}"
        facts = self._facts()
        evaluations = comparable(read_evaluations(directory))
        if evaluations:
            facts["extractor"] = evaluations[-1]["extractor"]["sha256"]
        write_aside(directory / "losses.png", draw_losses(records, evaluations, title, facts))

    def _picture(self, name: str, samples: np.ndarray, names: Sequence[str] = ()) -> bytes:
        if self.run.state.data.are_points:
            title = f"{name.removesuffix('.png')}, {len(samples)} points"
            generated = None if name == REALS else samples
            data = draw_points(draw_real_points(POINTS), generated, title, self._facts())
        else:
            data = pictures.png(pictures.grid(samples, *self.grid, names), self._facts())
        write_aside(self.run.directory / name, data)
        return data

    def _facts(self) -> dict[str, object]:
        state = self.run.state
        return pictures.made_by(state.config, state.data.name, state.progress.step)
