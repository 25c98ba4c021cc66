"""What the networks are fed with: this rank's shares of the streams of reals and latents."""

import itertools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from weakref import WeakMethod

import numpy as np
import torch
from torch import Tensor

from gan_mpi.arrays import Array, map_of, read_ahead, take
from gan_mpi.cluster.device import carriable, carried, use_in_thread
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.game.batch import Batch
from gan_mpi.game.latents import generator_inputs
from gan_mpi.game.precision import DTYPES
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.pixels import to_range
from gan_mpi.streams import DataOrder, Purpose, draw_labels, shard
from gan_mpi.training.state import RunState

LARGE = 10**9  # bytes of a map of which no more than a part may be in memory
BATCHES = 3  # drawn ahead: a step's, mostly
THREADS = 4
AT_ONCE = 1 << 16  # images that are brought to a device at once
TRAINING = Purpose.LATENTS, Purpose.DROPOUT, Purpose.LABELS

Drawn = dict[str, Tensor]  # what belongs to a batch, by name, on the host
Draw = Callable[[int, int, int], Drawn]  # of a position, lo and hi


class Ahead:
    """What a batch needs, drawn by threads before it is asked for, while a device computes.

    What was drawn is what would be drawn now: the stream is the same.  The threads call no MPI.
    """

    def __init__(self, draw: Draw, stride: int, device: torch.device) -> None:
        """`stride` is how far on in the stream a batch is from the one before.

        `draw` is a method of the object that keeps this one; with it the threads end.
        """
        self._method, self.stride = WeakMethod(draw), stride
        self._threads = ThreadPoolExecutor(THREADS, "draw", lambda: use_in_thread(device))
        self._coming: dict[tuple[int, int, int], Future[Drawn]] = {}

    def __call__(self, position: int, lo: int, hi: int) -> Drawn:
        """Return draw(position, lo, hi), and begin what follows.  Raises what `draw` raises."""
        coming = self._coming.pop((position, lo, hi), None)
        draw = self._method()
        assert draw is not None, "who keeps this has it"
        drawn = draw(position, lo, hi) if coming is None else coming.result()
        for passed in [key for key in self._coming if key[0] < position]:
            self._coming.pop(passed).cancel()
        for batch in range(1, BATCHES + 1):
            key = position + batch * self.stride, lo, hi
            if key not in self._coming:
                self._coming[key] = self._threads.submit(draw, *key)
        return drawn

    def close(self) -> None:
        """Draw nothing more, and wait for what is being drawn."""
        self._threads.shutdown(cancel_futures=True)


class Feed:
    """This rank's share of the endless streams of real images and latents."""

    def __init__(
        self,
        comm: Communicator,
        state: RunState,
        dataset: Dataset,
        device: torch.device,
        own: bool = False,
        micro_batch: int | None = None,
        room: int = 0,
    ) -> None:
        """`own` says that no other rank draws from `dataset`, so that an epoch is all of it.

        Data of at most `room` bytes are kept on the device.  Where it is no CPU, batches are drawn
        ahead by threads.

        `parts` are the places in the global batch of this rank's share, lo .. hi, of at most
        `micro_batch` each; `all_in_parts` says that every rank has several.
        """
        self.config, self.generator, self.device = state.draws, state.game.G.network, device
        self.dtype, self.own = DTYPES[state.config.precision], own
        self.images = dataset.images
        is_large = map_of(self.images) is not None and self.images.nbytes >= LARGE
        self.reads_ahead = is_large and device.type == "cpu"
        self.draws, self.host = state.game.draws, state.host
        self.kept = keep_on(device, self.images, room)
        self.label_counts = state.data.label_counts
        self.labels = dataset.labels if self.label_counts else None
        self.order = DataOrder(self.config.seed, len(dataset.images))
        self.lo, self.hi = shard(state.config.batch, comm.rank, comm.world_size)
        least = state.config.batch // comm.world_size  # images of a rank
        self.all_in_parts = micro_batch is not None and least > micro_batch
        ends = range(self.lo, self.hi, micro_batch or max(1, self.hi - self.lo))
        self.parts = list(itertools.pairwise([*ends, self.hi])) or [(self.lo, self.hi)]
        self._reals: Ahead | None = None
        self._latents: Ahead | None = None
        if device.type != "cpu" and len(self.parts) == 1:
            self.draw_ahead()

    def draw_ahead(self) -> None:
        """Let threads draw what the next batches need."""
        batch = self.config.batch
        self._reals = Ahead(self._draw_next_reals, batch, self.device)
        self._latents = Ahead(self._draw_next_latents, batch, self.device)

    def about(self) -> list[str]:
        """Say where a device takes the data from."""
        if self.device.type == "cpu":
            return []
        size = f"{self.images.nbytes / 1e6:.0f} MB"
        if self.kept is None:
            return [f"the data, {size}, do not fit a device, and cross to it batch by batch."]
        return [f"the data, {size}, are kept on each device."]

    def rows(self, position: int, lo: int, hi: int) -> Array:
        """Return where in the data lo .. hi of the batch of reals from a position on are."""
        share = self.hi - self.lo
        begin = position // self.config.batch * share - self.lo if self.own else position
        return self.order.indices(begin + lo, begin + hi)

    def close(self) -> None:
        """Let no thread read the data any more."""
        for ahead in (self._reals, self._latents):
            if ahead is not None:
                ahead.close()

    def next_reals(self, position: int, lo: int, hi: int) -> Batch:
        """Return lo .. hi of the batch of reals from a position of their stream on.

        Its values are (n, *shape), in the range of the run.  On a CPU the rows of a large map that
        the batch after it has, if there is one, are read meanwhile.
        """
        drawn = self._bring(self._reals or self._draw_next_reals, "images", position, lo, hi)
        following = position + self.config.batch
        if self.reads_ahead and following < self.config.steps * self.config.images_per_step:
            read_ahead(self.images, self.rows(following, lo, hi))
        return self._part(self._of_reals(drawn, position + lo), lo)

    def next_latents(self, position: int, lo: int, hi: int) -> Batch:
        """Return lo .. hi of the batch of latents from a position of their stream on.

        Its values are (n, latent_dim), and masks of dropout; labels are drawn as often as the
        data have them.
        """
        drawn = self._bring(self._latents or self._draw_next_latents, "latents", position, lo, hi)
        return self._part(self._of_latents(drawn, position + lo), lo)

    def reals(self, images: Array, labels: Array | None, first: int) -> Batch:
        """Return images that nothing else holds, number `first` and on of a stream, as a batch.

        It has nothing for extras.
        """
        pixels = {"images": carriable(images, self.device)}
        return self._of_reals(self._there(pixels | self._carriable(labels=labels)), first)

    def latents(self, purposes: tuple[Purpose, Purpose, Purpose], first: int, last: int) -> Batch:
        """Return numbers first..last of streams of latents, of masks and of labels.

        There is nothing for extras.
        """
        return self._of_latents(self._there(self._draw_latents(purposes, first, last)), first)

    def _draw_next_reals(self, position: int, lo: int, hi: int) -> Drawn:
        """Return images, or their rows in what the device keeps, labels, and what extras want."""
        rows = self.rows(position, lo, hi)
        labels = None if self.labels is None else self.labels[rows]
        if self.kept is None:
            images = {"images": carriable(take(self.images, rows), self.device)}
        else:
            images = self._carriable(rows=rows)
        extras = self._draw_extras("real", position, lo, hi)
        return images | self._carriable(labels=labels) | extras

    def _draw_next_latents(self, position: int, lo: int, hi: int) -> Drawn:
        """Return latents with their masks, labels, and what extras want."""
        drawn = self._draw_latents(TRAINING, position + lo, position + hi)
        return drawn | self._draw_extras("fake", position, lo, hi)

    def _draw_extras(self, kind: str, position: int, lo: int, hi: int) -> Drawn:
        drawn: dict[str, Array] = {}
        for draw in self.draws:
            drawn |= draw(kind, position + lo, position + hi)
        return self._carriable(**drawn)

    def _draw_latents(
        self, purposes: tuple[Purpose, Purpose, Purpose], first: int, last: int
    ) -> Drawn:
        config, (of_latents, of_masks, of_labels) = self.config, purposes
        values = generator_inputs(
            self.generator, config, config.seed, (of_latents, of_masks), first, last
        )
        labels = None
        if self.labels is not None:
            labels = draw_labels(self.label_counts, config.seed, of_labels, first, last)
        return self._carriable(values=values, labels=labels)

    def _carriable(self, **arrays: Array | None) -> Drawn:
        """Return arrays by name, numbers in the run's precision, ready to be brought to the device.

        Those that are None are left out; integers become int64.
        """
        types = {"f": self.dtype, "i": torch.int64, "u": torch.int64, "b": torch.bool}
        return {
            name: carriable(array, self.device, types[array.dtype.kind])
            for name, array in arrays.items()
            if array is not None
        }

    def _there(self, drawn: Drawn) -> Drawn:
        """Return what was drawn on the device, without waiting for it."""
        return {name: each.to(self.device, non_blocking=True) for name, each in drawn.items()}

    def _bring(self, draw: Draw, stream: str, position: int, lo: int, hi: int) -> Drawn:
        """Return on the device what a batch from a position of a stream on needs."""
        moved = self.host.moved
        return self.host.bring(lambda: draw(position + moved[stream], lo, hi), self.device)

    def _of_reals(self, there: Drawn, first: int) -> Batch:
        """Return images (n, *shape), or rows of those that are kept, as a batch."""
        if "rows" in there and self.kept is not None:
            there["images"] = self.kept.index_select(0, there.pop("rows"))
        values = to_range(there.pop("images"), self.dtype, self.config.range)
        return Batch("real", values, first, there.pop("labels", None), drawn=there)

    def _of_latents(self, there: Drawn, first: int) -> Batch:
        return Batch("fake", there.pop("values"), first, there.pop("labels", None), drawn=there)

    def _part(self, batch: Batch, lo: int) -> Batch:
        """Return a batch that begins at a place of the global one as a part of the share."""
        return replace(batch, place=lo - self.lo, share=self.hi - self.lo)


def keep_on(device: torch.device, images: Array, room: int) -> Tensor | None:
    """Return images on a device if they take no more than `room` bytes of it, else None."""
    if images.nbytes > room:
        return None
    kept = torch.empty(images.shape, dtype=torch.from_numpy(images[:0].copy()).dtype, device=device)
    for first in range(0, len(images), AT_ONCE):
        rows = np.arange(first, min(first + AT_ONCE, len(images)))
        kept[first : first + AT_ONCE] = carried(take(images, rows), device)
    return kept
