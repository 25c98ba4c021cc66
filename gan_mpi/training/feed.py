"""What the networks are fed with: this rank's shares of the streams of reals and latents."""

import numpy as np
import torch

from gan_mpi.datasets.dataset import Dataset
from gan_mpi.game.batch import Batch
from gan_mpi.game.latents import generator_inputs
from gan_mpi.game.precision import DTYPES
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.pixels import to_range
from gan_mpi.streams import DataOrder, Purpose, draw_labels, shard
from gan_mpi.training.state import RunState

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
        labels = None if self.labels is None else self.labels[rows]
        return self.reals(self.real[rows], labels, at + self.lo)

    def next_latents(self) -> Batch:
        """Return this rank's share of the next latents, (n, latent_dim), and masks of dropout.

        Labels are drawn as often as the data have them.
        """
        at = self.state.progress.latents
        self.state.progress.latents += self.state.config.batch
        return self.latents(TRAINING, at + self.lo, at + self.hi)

    def reals(self, images: np.ndarray, labels: np.ndarray | None, first: int) -> Batch:
        """Return images that nothing else holds, number `first` and on of a stream, as a batch."""
        config = self.state.config
        on_device = torch.from_numpy(images).to(self.device)
        values = to_range(on_device, self.dtype, config.range)
        known = None if labels is None else self._labels(labels)
        return Batch("real", values, first, known)

    def latents(self, purposes: tuple[Purpose, Purpose, Purpose], first: int, last: int) -> Batch:
        """Return numbers first..last of streams of latents, of masks and of labels."""
        config, (*inputs, of_labels) = self.state.config, purposes
        drawn = generator_inputs(
            self.state.game.G.network,
            config,
            config.seed,
            (inputs[0], inputs[1]),
            first,
            last,
        )
        values = torch.from_numpy(drawn).to(self.dtype).to(self.device)
        if self.labels is None:
            return Batch("fake", values, first)
        counts = self.state.data["label_counts"]
        labels = draw_labels(counts, config.seed, of_labels, first, last)
        return Batch("fake", values, first, self._labels(labels))

    def _labels(self, labels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(labels.astype(np.int64)).to(self.device)
