"""What the host does for a turn on a device: once, or for each launch of one that was recorded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

Act = Callable[[], None]
Arrays = Mapping[str, Tensor]  # by name, on the host
Pair = tuple[float, float]  # a number of an update, and one with which nothing changes
T = TypeVar("T")


class Graph(Protocol):
    """What a device does, recorded once and launched as one."""

    def warm(self, launch: Callable[[], T]) -> T:
        """Let the device do what `launch` has it do, as it will be recorded; return its answer."""

    def record(self, launch: Callable[[], object]) -> None:
        """Record what `launch` has the device do, and let it be done once."""

    def aside(self, act: Act) -> None:
        """Within record(), do what is not to be recorded, before it is done."""

    def replay(self) -> None:
        """Let the device do all of it again."""


class Host:
    """Brings numbers to a device without waiting for it, and counts what it does.

    rehearse() keeps the places of what is brought, and record() has them filled anew, so that no
    place is of the graph's own memory, which it uses for one thing after another.  prepare() then
    does for another launch what was done for the recorded one.
    """

    def __init__(self) -> None:
        self.moved = {"images": 0, "latents": 0}  # how far streams are on since record()
        self._graph: Graph | None = None
        self._kept: list[dict[str, Tensor]] | None = None  # places, in the order of a turn
        self._coming: Iterator[dict[str, Tensor]] = iter(())
        self._before: list[Act] = []
        self._after: list[Act] = []

    def bring(self, draw: Callable[[], Arrays], device: torch.device) -> dict[str, Tensor]:
        """Return on a device what is drawn on the host, and looks the same each time."""
        if self._graph is not None:
            there = next(self._coming)
            self.each_time(lambda: _fill(there, draw()))
            return dict(there)
        drawn = draw()
        there = {name: each.to(device, non_blocking=True) for name, each in drawn.items()}
        if self._kept is not None:
            there = {name: each.clone() for name, each in there.items()}
            self._kept.append(there)
        return dict(there)

    def numbers(self, like: Tensor, reckon: Callable[[], Sequence[Pair]]) -> Tensor:
        """Return pairs (n, 2), reckoned in float64, of the type of `like` and beside it."""

        def draw() -> Arrays:
            pairs = torch.tensor(reckon(), dtype=torch.float64).to(like.dtype)
            return {"pairs": pairs.pin_memory() if like.is_cuda else pairs}

        return self.bring(draw, like.device)["pairs"]

    def each_time(self, act: Act) -> None:
        """Do something on the host before what comes."""
        if self._graph is None:
            act()
            return
        self._before.append(act)
        self._graph.aside(act)

    def afterwards(self, act: Act) -> None:
        """Do something with what the device has been told to do so far."""
        if self._graph is None:
            act()
        else:
            self._after.append(act)

    def rehearse(self, launch: Callable[[], T]) -> T:
        """Do what `launch` does, and keep the places of what it brings."""
        self._kept = []
        try:
            return launch()
        finally:
            self._coming, self._kept = iter(self._kept), None

    def record(self, graph: Graph, launch: Callable[[], object]) -> None:
        """Do what `launch` does, as it was rehearsed, so that it can be launched again.

        Raises RuntimeError, before anything is done, if the device cannot record it.
        """
        self._graph, self._before, self._after = graph, [], []
        try:
            graph.record(launch)
        finally:
            self._graph = None
        assert next(self._coming, None) is None, "a turn brings what the one before it brought"
        self.conclude()

    def prepare(self, images: int, latents: int) -> None:
        """Bring the numbers for another launch, so far on in the streams, and count it."""
        self.moved.update(images=images, latents=latents)
        for act in self._before:
            act()
        self.moved.update(images=0, latents=0)

    def conclude(self) -> None:
        """Do what is to be done after a launch."""
        for act in self._after:
            act()


def _fill(there: Mapping[str, Tensor], arrays: Arrays) -> None:
    for name, array in arrays.items():
        there[name].copy_(array, non_blocking=True)


@dataclass(frozen=True)
class DeviceUpdate:
    """An update on a device, that changes nothing where `are_finite`, 0-d bool, is false.

    So a device need not be waited for before it.
    """

    are_finite: Tensor
    host: Host

    def choose(self, new: Tensor, old: Tensor) -> Tensor:
        """Return `new`, or `old` where nothing is to change."""
        return torch.where(self.are_finite, new, old)

    def numbers(self, like: Tensor, reckon: Callable[[], Sequence[Pair]]) -> list[Tensor]:
        """Return 0-d numbers beside `like`, or those with which nothing changes."""
        first, other = self.host.numbers(like, reckon).unbind(1)
        return list(self.choose(first, other).unbind())
