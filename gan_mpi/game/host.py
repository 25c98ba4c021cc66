"""What the host does for a turn on a device: once, or for each launch of one that was recorded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Act = Callable[[], None]
Arrays = Mapping[str, Tensor]  # by name, on the host
Pair = tuple[float, float]  # a number of an update, and one with which nothing changes


class Graph(Protocol):
    """What a device does, recorded once and launched as one."""

    def record(self, launch: Callable[[], object]) -> None:
        """Record what `launch` has the device do, and let it be done once."""

    def aside(self, act: Act) -> None:
        """Within record(), do what is not to be recorded, before it is done."""

    def replay(self) -> None:
        """Let the device do all of it again."""


class Host:
    """Brings numbers to a device without waiting for it, and counts what it does.

    What is done in record() is noted; repeat() does it again, with the numbers of that time in the
    places of those before them.
    """

    def __init__(self) -> None:
        self.moved = {"images": 0, "latents": 0}  # how far streams are on since record()
        self._graph: Graph | None = None
        self._before: list[Act] = []
        self._after: list[Act] = []

    def bring(self, draw: Callable[[], Arrays], device: torch.device) -> dict[str, Tensor]:
        """Return on a device what is drawn on the host, and looks the same each time."""
        if self._graph is None:
            return {name: each.to(device, non_blocking=True) for name, each in draw().items()}
        there = {
            name: torch.empty(each.shape, dtype=each.dtype, device=device)
            for name, each in draw().items()
        }
        self.each_time(lambda: _fill(there, draw()))
        return dict(there)

    def numbers(self, like: Tensor, count: int, reckon: Callable[[], Sequence[Pair]]) -> Tensor:
        """Return pairs (count, 2), reckoned in float64, of the type of `like` and beside it."""
        there = like.new_empty(count, 2)

        def fill() -> None:
            pairs = torch.tensor(reckon(), dtype=torch.float64).to(like.dtype)
            _fill({"": there}, {"": pairs.pin_memory() if like.is_cuda else pairs})

        self.each_time(fill)
        return there

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

    def record(self, graph: Graph, launch: Callable[[], object]) -> None:
        """Do what `launch` does, so that it can be repeated."""
        self._graph, self._before, self._after = graph, [], []
        try:
            graph.record(launch)
        finally:
            self._graph = None
        for act in self._after:
            act()

    def repeat(self, graph: Graph, images: int, latents: int) -> None:
        """Do again what was recorded, so far on in the streams."""
        self.moved.update(images=images, latents=latents)
        for act in self._before:
            act()
        self.moved.update(images=0, latents=0)
        graph.replay()
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

    def numbers(
        self, like: Tensor, count: int, reckon: Callable[[], Sequence[Pair]]
    ) -> list[Tensor]:
        """Return `count` 0-d numbers beside `like`, or those with which nothing changes."""
        first, other = self.host.numbers(like, count, reckon).unbind(1)
        return list(self.choose(first, other).unbind())
