"""What the networks are fed with: this rank's shares of the streams of reals and latents."""

import itertools
from dataclasses import replace

import numpy as np
import torch

from gan_mpi.arrays import Array, map_of, read_ahead, take
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.game.batch import Batch
from gan_mpi.game.latents import generator_inputs
from gan_mpi.game.precision import DTYPES
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.pixels import to_range
from gan_mpi.streams import DataOrder, Purpose, draw_labels, shard
from gan_mpi.training.state import RunState

LARGE = 10**9  # bytes of a map of which no more than a part may be in memory
TRAINING = Purpose.LATENTS, Purpose.DROPOUT, Purpose.LABELS


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
    ) -> None:
        """`own` says that no other rank draws from `dataset`, so that an epoch is all of it.

        `parts` are the places in the global batch of this rank's share, lo .. hi, of at most
        `micro_batch` each; `all_in_parts` says that every rank has several.
        """
        self.config, self.generator, self.device = state.config, state.game.G.network, device
        self.dtype, self.own = DTYPES[state.config.precision], own
        self.images = dataset.images
        self.reads_ahead = map_of(self.images) is not None and self.images.nbytes >= LARGE
        self.label_counts = state.data.label_counts
        self.labels = dataset.labels if self.label_counts else None
        self.order = DataOrder(state.config.seed, len(dataset.images))
        self.lo, self.hi = shard(state.config.batch, comm.rank, comm.world_size)
        least = state.config.batch // comm.world_size  # images of a rank
        self.all_in_parts = micro_batch is not None and least > micro_batch
        ends = range(self.lo, self.hi, micro_batch or max(1, self.hi - self.lo))
        self.parts = list(itertools.pairwise([*ends, self.hi])) or [(self.lo, self.hi)]

    def rows(self, position: int, lo: int, hi: int) -> Array:
        """Return where in the data lo .. hi of the batch of reals from a position on are."""
        share = self.hi - self.lo
        begin = position // self.config.batch * share - self.lo if self.own else position
        return self.order.indices(begin + lo, begin + hi)

    def next_reals(self, position: int, lo: int, hi: int) -> Batch:
        """Return lo .. hi of the batch of reals from a position of their stream on.

        Its values are (n, *shape), in the range of the run.  Of a large map the rows of the batch
        after it, if there is one, are read meanwhile.
        """
        rows = self.rows(position, lo, hi)
        labels = None if self.labels is None else self.labels[rows]
        part = self.reals(take(self.images, rows), labels, position + lo)
        following = position + self.config.batch
        if self.reads_ahead and following < self.config.steps * self.config.images_per_step:
            read_ahead(self.images, self.rows(following, lo, hi))
        return replace(part, place=lo - self.lo, share=self.hi - self.lo)

    def next_latents(self, position: int, lo: int, hi: int) -> Batch:
        """Return lo .. hi of the batch of latents from a position of their stream on.

        Its values are (n, latent_dim), and masks of dropout; labels are drawn as often as the
        data have them.
        """
        part = self.latents(TRAINING, position + lo, position + hi)
        return replace(part, place=lo - self.lo, share=self.hi - self.lo)

    def reals(self, images: Array, labels: Array | None, first: int) -> Batch:
        """Return images that nothing else holds, number `first` and on of a stream, as a batch."""
        on_device = torch.from_numpy(images).to(self.device)
        values = to_range(on_device, self.dtype, self.config.range)
        return Batch("real", values, first, self._labels(labels))

    def latents(self, purposes: tuple[Purpose, Purpose, Purpose], first: int, last: int) -> Batch:
        """Return numbers first..last of streams of latents, of masks and of labels."""
        config, (of_latents, of_masks, of_labels) = self.config, purposes
        drawn = generator_inputs(
            self.generator, config, config.seed, (of_latents, of_masks), first, last
        )
        values = torch.from_numpy(drawn).to(self.dtype).to(self.device)
        labels = None
        if self.labels is not None:
            labels = draw_labels(self.label_counts, config.seed, of_labels, first, last)
        return Batch("fake", values, first, self._labels(labels))

    def _labels(self, labels: Array | None) -> torch.Tensor | None:
        if labels is None:
            return None
        return torch.from_numpy(labels.astype(np.int64)).to(self.device)
