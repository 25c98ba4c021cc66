"""Figures of updates, noted in their order as soon as the host has them."""

from collections.abc import Callable

import torch
from torch import Tensor

from gan_mpi.parallel.bucket import Averages

ROWS = 256  # figures of updates that may wait on a device

Note = Callable[[list[float]], None]  # of the means of an update, and the norm of its gradient


class Books:
    """What is to be done with figures: at once where the host has them, else when they are wanted.

    A device keeps them, so that nothing waits for it.  It also keeps whether all so far were
    finite, by which it leaves out an update that is not, and all after it: the state stays what it
    was until the host reads the figures and finds out.
    """

    def __init__(self) -> None:
        self._notes: list[tuple[Note, int]] = []  # what to do with rows, and their lengths
        self._rows = self._are_finite = torch.empty(0)

    def enter(self, averages: Averages, note: Note) -> Tensor | None:
        """Do something with figures; return, on a device, whether all so far are finite, 0-d bool.

        Raises what `note` raises.
        """
        if averages.on_host:
            self.settle()
            note([*averages.figures.tolist(), averages.norm.item()])
            return None
        figures = torch.cat([averages.figures, averages.norm[None]])
        if len(self._notes) == len(self._rows):
            self.settle()
        if self._rows.shape[-1] < len(figures):
            self._widen(figures)
        self._rows[len(self._notes), : len(figures)] = figures
        self._are_finite.logical_and_(figures.isfinite().all())
        self._notes.append((note, len(figures)))
        return self._are_finite

    def _widen(self, figures: Tensor) -> None:
        """Make rows for figures that are more than any before."""
        self.settle()
        if not len(self._rows):
            self._are_finite = torch.ones((), dtype=torch.bool, device=figures.device)
        self._rows = figures.new_zeros(ROWS, len(figures))

    def after(self, act: Callable[[], None]) -> None:
        """Do something after the figures so far are noted."""
        if not self._notes:
            act()
            return
        if len(self._notes) == len(self._rows):
            self.settle()
        self._notes.append((lambda _: act(), 0))

    def settle(self) -> None:
        """Note the figures that wait.  Raises what a note raises."""
        if self._notes:
            notes, self._notes = self._notes, []
            for (note, length), row in zip(notes, self._rows[: len(notes)].tolist(), strict=True):
                note(row[:length])
