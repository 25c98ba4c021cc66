"""What the networks are fed with: this rank's shares of the streams of reals and latents."""

import numpy as np
import torch

from gan_mpi.batch import Batch
from gan_mpi.comm import Communicator
from gan_mpi.datasets import Dataset
from gan_mpi.images import to_range
from gan_mpi.latents import generator_inputs
from gan_mpi.prepare import DTYPES
from gan_mpi.state import RunState
from gan_mpi.streams import DataOrder, Purpose, draw_labels, shard


class Feed:
    """This rank's share of the endless streams of real images and latents."""

    def __init__(
        self,
        comm: Communicator,
        state: RunState,
        dataset: Dataset,
        device: torch.device,
        own: bool = False,
    ) -> None:
        """`own` says that no other rank draws from `dataset`, so that an epoch is all of it."""
        self.state, self.real, self.device = state, dataset.images, device
        self.own = own
        self.labels = dataset.labels if "label_counts" in state.data else None
        self.dtype = DTYPES[state.config.precision]
        self.order = DataOrder(state.config.seed, len(self.real))
        self.lo, self.hi = shard(state.config.batch, comm.rank, comm.world_size)

    def next_real(self) -> Batch:
        """Return this rank's share of the next reals, (n, *shape), in the range of the run."""
        at, config = self.state.progress.images, self.state.config
        size = self.hi - self.lo
        begin = at // config.batch * size if self.own else at + self.lo
        rows = self.order.indices(begin, begin + size)
        self.state.progress.images += config.batch
        on_device = torch.from_numpy(self.real[rows]).to(self.device)
        values = to_range(on_device, self.dtype, config.range)
        labels = None if self.labels is None else self._labels(self.labels[rows])
        return Batch("real", values, at + self.lo, labels)

    def next_latents(self) -> Batch:
        """Return this rank's share of the next latents, (n, latent_dim), and masks of dropout.

        Labels are drawn as often as the data have them.
        """
        config, at = self.state.config, self.state.progress.latents
        first, last = at + self.lo, at + self.hi
        purposes = Purpose.LATENTS, Purpose.DROPOUT
        generator = self.state.game.G.network
        drawn = generator_inputs(generator, config, config.seed, purposes, first, last)
        self.state.progress.latents += config.batch
        values = torch.from_numpy(drawn).to(self.dtype).to(self.device)
        if self.labels is None:
            return Batch("fake", values, first)
        counts = self.state.data["label_counts"]
        labels = draw_labels(counts, config.seed, Purpose.LABELS, first, last)
        return Batch("fake", values, first, self._labels(labels))

    def _labels(self, labels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(labels.astype(np.int64)).to(self.device)
