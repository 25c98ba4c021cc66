"""Figures of updates, noted in their order as soon as the host has them."""

from collections.abc import Callable

import torch
from torch import Tensor

from gan_mpi.game.host import DeviceUpdate, Host
from gan_mpi.parallel.average import Averages

ROWS = 256  # figures of updates that may wait on a device

# Of the means of an update, and the norm of its gradient, in a step.
Note = Callable[[list[float], int], None]


class Books:
    """What is to be done with figures: at once where the host has them, else when they are wanted.

    A device keeps them, so that nothing waits for it.  It also keeps whether all so far were
    finite, by which it leaves out an update that is not, and all after it: the state stays what it
    was until the host reads the figures and finds out.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.step = 0  # the one that updates are of
        self._notes: list[tuple[Note, int, int]] = []  # what to do with rows, step and length
        self._rows = torch.empty(0)
        self._are_finite: Tensor | None = None

    def enter(self, averages: Averages, note: Note) -> DeviceUpdate | None:
        """Do something with figures; return what an update by them is on a device.

        There it changes nothing unless all figures so far are finite.  Raises what `note` raises.
        """
        if averages.on_host:
            self.settle()
            note([*averages.figures.tolist(), averages.norm.item()], self.step)
            return None
        figures = torch.cat([averages.figures, averages.norm[None]])
        if self._are_finite is None:
            self._are_finite = torch.ones((), dtype=torch.bool, device=figures.device)
        self._are_finite.logical_and_(figures.isfinite().all())
        self.host.afterwards(lambda: self._keep(figures, note))
        return DeviceUpdate(self._are_finite, self.host)

    def _keep(self, figures: Tensor, note: Note) -> None:
        if len(self._notes) == len(self._rows) or self._rows.shape[-1] < len(figures):
            self.settle()
        if self._rows.shape[-1] < len(figures):
            self._rows = figures.new_zeros(ROWS, len(figures))
        self._rows[len(self._notes), : len(figures)] = figures
        self._notes.append((note, self.step, len(figures)))

    def after(self, act: Callable[[], None]) -> None:
        """Do something after the figures so far are noted."""
        self.host.afterwards(lambda: self._follow(act))

    def _follow(self, act: Callable[[], None]) -> None:
        if not self._notes:
            act()
            return
        if len(self._notes) == len(self._rows):
            self.settle()
        self._notes.append((lambda *_: act(), self.step, 0))

    def settle(self) -> None:
        """Note the figures that wait.  Raises what a note raises."""
        if self._notes:
            notes, self._notes = self._notes, []
            rows = self._rows[: len(notes)].tolist()
            for (note, step, length), row in zip(notes, rows, strict=True):
                note(row[:length], step)
