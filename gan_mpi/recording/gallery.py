"""The pictures of a run: samples, real images, and curves."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch

from gan_mpi.config.running import RunConfig
from gan_mpi.config.values import grid_size
from gan_mpi.datasets.drawn import draw_points as draw_real_points
from gan_mpi.drawing import pictures
from gan_mpi.drawing.charts import draw_losses, draw_points
from gan_mpi.drawing.generator import read_generator
from gan_mpi.drawing.samples import POINTS, fill_grid, generate, row_names, usual_grid
from gan_mpi.extras.augment import Augmentation
from gan_mpi.files import write_aside
from gan_mpi.game.batch import Batch
from gan_mpi.networks.pixels import from_range, to_range
from gan_mpi.recording.board import Board
from gan_mpi.runs import stats
from gan_mpi.runs.checkpoint import Checkpoint
from gan_mpi.runs.evaluations import comparable, read_evaluations
from gan_mpi.streams import DataOrder
from gan_mpi.training.run import Run
from gan_mpi.training.state import State

REALS, AUGMENTED = "reals.png", "augmented.png"
AT_ONCE = 65_536  # labels that are looked at


def about_grid(options: RunConfig, state: State) -> list[str]:
    """Return a warning if pictures have fewer rows than there are classes."""
    classes = sum(count > 0 for count in state.data.label_counts)
    columns, rows = grid_size(options.grid) if options.grid else usual_grid(classes)
    if rows >= classes:
        return []
    return [f"--grid {columns}x{rows} shows {rows} of {classes} classes; {columns}x{classes}, all"]


class Gallery:
    """What is drawn into a run directory, by root."""

    def __init__(self, run: Run, board: Board) -> None:
        """Samples also go to `board`."""
        self.run, self.board, data = run, board, run.state.data
        self.classes = [label for label, count in enumerate(data.label_counts) if count]
        asked = run.options.grid
        self.grid = grid_size(asked) if asked else usual_grid(len(self.classes))
        self.count = POINTS if data.are_points else self.grid[0] * self.grid[1]

    def samples(self) -> Callable[[Checkpoint], None]:
        """Return what draws the first seeds' samples of a checkpoint of this step, in any thread.

        Where this rank computes on several threads it is only to write them: images are drawn by
        one, and their number is MKL's for all threads of a process.
        """
        state, step, facts = self.run.state, self.run.state.progress.step, self._facts()
        seeds, labels = self._places()
        on_host = next(state.sampler.parameters()).device.type == "cpu"
        drawn, augmented = None, self._augmented()
        if not on_host or torch.get_num_threads() > 1:
            drawn = generate(state.sampler, state.config, seeds, labels)

        def draw(saved: Checkpoint) -> None:
            samples = drawn
            if samples is None:
                generator = read_generator(self.run.directory, saved, ema=True).build()
                samples = generate(generator, state.config, seeds, labels)
            picture = self._picture(f"fakes-{step:06d}.png", samples, labels, facts)
            self.board.add_picture("samples", picture, step)
            augmented()

        return draw

    def _augmented(self) -> Callable[[], None]:
        """Return what draws the reals of reals.png as D sees them in this step, if it changes them.

        It may be called in any thread.
        """
        state, facts = self.run.state, self._facts()
        config, first = state.config, state.progress.images
        if not isinstance(state.game.augment, Augmentation) or not state.shows_reals:
            return lambda: None
        augmentation = state.game.augment.at(config.share_of_ramp(state.progress.step))

        def draw() -> None:
            shown, labels = self._reals
            images = to_range(torch.from_numpy(shown.copy()), torch.float32, config.range)
            arrays = augmentation.draw("real", first, first + len(images))
            drawn = {name: torch.from_numpy(array) for name, array in arrays.items()}
            seen = augmentation(Batch("real", images, first, drawn=drawn))
            self._picture(AUGMENTED, from_range(seen, config.range), labels, facts)

        return draw

    def reals(self) -> None:
        """Draw the first of the data, as the run sees them; where samples have classes, of each."""
        self._picture(REALS, *self._reals, self._facts())

    @cached_property
    def _reals(self) -> tuple[np.ndarray, list[int] | None]:
        real, (_, labels) = self.run.dataset.images, self._places()
        order = DataOrder(self.run.state.config.seed, len(real)).indices(0, len(real))
        shown = real[order[: self.count]] if labels is None else self._of_classes(order, labels)
        return shown, labels

    def _places(self) -> tuple[list[int], list[int] | None]:
        """Return the seed of each place in a picture, and its class if samples have classes."""
        data = self.run.state.data
        if data.are_points:
            return list(range(self.count)), None
        return fill_grid(*self.grid, self.classes)

    def _of_classes(self, order: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Return the next image in `order` of each of these classes; grey where there is none."""
        real, of_images = self.run.dataset.images, self.run.dataset.labels
        assert of_images is not None, "samples have classes because the data do"
        wanted = Counter(labels)
        places: dict[int, list[int]] = {label: [] for label in wanted}
        for begin in range(0, len(order), AT_ONCE):
            part = order[begin : begin + AT_ONCE]
            of_part = of_images[part]
            for label in [label for label, count in wanted.items() if count]:
                more = part[of_part == label][: wanted[label]].tolist()
                places[label] += more
                wanted[label] -= len(more)
            if not wanted.total():
                break
        found = [places[label].pop(0) if places[label] else None for label in labels]
        nothing = np.full_like(real[0], pictures.GAP_GREY)
        return np.stack([nothing if place is None else real[place] for place in found])

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

    def _picture(
        self,
        name: str,
        samples: np.ndarray,
        labels: Sequence[int] | None,
        facts: Mapping[str, object],
    ) -> bytes:
        """Draw images, in rows that are called by these classes if there are any, or points."""
        if self.run.state.data.are_points:
            title = f"{name.removesuffix('.png')}, {len(samples)} points"
            generated = None if name == REALS else samples
            data = draw_points(draw_real_points(POINTS), generated, title, facts)
        else:
            names = row_names(self.run.state.data, labels, self.grid[0])
            data = pictures.png(pictures.grid(samples, *self.grid, names), facts)
        write_aside(self.run.directory / name, data)
        return data

    def _facts(self) -> dict[str, object]:
        state = self.run.state
        return pictures.made_by(state.config, state.data.name, state.progress.step)
