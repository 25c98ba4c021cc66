"""What steps on more ranks would take, by what one rank computes and what two ranks send."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MOST = 4096  # ranks of which something is predicted


@dataclass(frozen=True)
class Link:
    """A sum of n bytes over two ranks takes latency + n / bandwidth, in seconds and bytes."""

    latency: float
    bandwidth: float

    def seconds(self, size: int, ranks: int) -> float:
        """Return the seconds of a sum of so many bytes over ranks.

        A tree of halves, log2(p) latencies and 2 (p - 1) / p of the bytes: Rabenseifner's way, by
        Thakur, Rabenseifner and Gropp, Int. J. High Perform. Comput. Appl. 19 (2005), 49.
        """
        steps, share = math.ceil(math.log2(ranks)), 2 * (ranks - 1) / ranks
        return steps * self.latency + share * size / self.bandwidth


@dataclass(frozen=True)
class Prediction:
    """A step on more ranks than were timed, or as many."""

    scaling: str
    ranks: int
    batch: int
    seconds: float
    efficiency: float


@dataclass(frozen=True)
class Model:
    """Computing, sending and waiting, each known from no more than two ranks.

    `points` are shares of which a rank's computing was timed, and its seconds, the smaller first;
    on none it takes `fixed`.  `alone` are the seconds of steps of one rank, by whose spread the
    slowest of many is later; `messages` are the bytes of a step's sums.
    """

    points: tuple[tuple[int, float], ...]
    fixed: float
    alone: tuple[float, ...]
    link: Link
    messages: tuple[int, ...]

    def computing(self, share: int) -> float:
        """Return the seconds that a rank computes on so many images: by lines from one to another.

        More than were timed take as long each as they did.
        """
        shares, seconds = zip((0, self.fixed), *self.points, strict=True)
        if share > shares[-1]:
            return float(seconds[-1] * share / shares[-1])
        return float(np.interp(share, shares, seconds))

    def waiting(self, ranks: int) -> float:
        """Return by how many seconds the slowest of some ranks is later than the middle one.

        The largest of p draws from the steps of one rank, on the average.
        """
        times = np.sort(self.alone)
        below = np.linspace(0, 1, len(times) + 1) ** ranks
        return float(max(0.0, np.diff(below) @ times - np.median(times)))

    def seconds(self, ranks: int, batch: int) -> float:
        """Return the seconds of a step with a batch over so many ranks."""
        computing = self.computing(-(-batch // ranks))
        if ranks == 1:
            return computing
        return computing + self.waiting(ranks) + self.sending(ranks)

    def sending(self, ranks: int) -> float:
        """Return the seconds of the sums of a step over so many ranks."""
        return sum(self.link.seconds(size, ranks) for size in self.messages)

    def predict(self, batch: int, share: int) -> list[Prediction]:
        """Return 2, 4 ... MOST ranks with one batch, down to an image each, and one share each."""
        found = []
        for ranks in (2**n for n in range(1, MOST.bit_length())):
            if ranks <= batch:
                seconds = self.seconds(ranks, batch)
                speed = self.computing(batch) / seconds / ranks
                found.append(Prediction("strong", ranks, batch, seconds, speed))
            seconds = self.seconds(ranks, share * ranks)
            speed = self.computing(share) / seconds
            found.append(Prediction("weak", ranks, share * ranks, seconds, speed))
        return sorted(found, key=lambda each: each.scaling)


def fit_link(seconds: Mapping[int, float]) -> Link:
    """Return the latency and bandwidth nearest to the seconds of sums over two ranks, by bytes.

    Each counts by its relative error.
    """
    sizes, times = np.array(list(seconds), float), np.array(list(seconds.values()))
    columns = np.stack([np.ones_like(sizes), sizes], axis=1) / times[:, None]
    latency, a_byte = np.linalg.lstsq(columns, np.ones_like(times), rcond=None)[0]
    if latency <= 0 or a_byte <= 0:  # too noisy for two numbers
        latency, a_byte = times.min(), max(times[-1] - times.min(), 1e-12) / sizes[-1]
    return Link(float(latency), float(1 / a_byte))


def fit_fixed(points: Sequence[tuple[int, float]]) -> float:
    """Return the seconds of a step without images: where the line through two points begins.

    0 where it would begin below, or with one point.
    """
    (few, least), (many, most) = points[0], points[-1]
    if most <= least:
        return 0.0
    return max(0.0, least - few * (most - least) / (many - few))


def make_model(
    by_share: Mapping[int, Sequence[float]], link: Link, messages: Sequence[int]
) -> Model:
    """Return the model of steps of one rank, seconds by their images, and what crosses in each."""
    points = [(share, float(np.median(by_share[share]))) for share in sorted(by_share)]
    alone = tuple(by_share[min(by_share)])
    return Model(tuple(points), fit_fixed(points), alone, link, tuple(messages))
