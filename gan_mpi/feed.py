"""What the networks are fed with: this rank's shares of the streams of reals and latents."""

import numpy as np
import torch

from gan_mpi.comm import Communicator
from gan_mpi.images import to_range
from gan_mpi.prepare import DTYPES
from gan_mpi.state import RunState
from gan_mpi.streams import DataOrder, Purpose, draw_latents, shard


class Feed:
    """This rank's share of the endless streams of real images and latents."""

    def __init__(
        self,
        comm: Communicator,
        state: RunState,
        real: np.ndarray,
        device: torch.device,
    ) -> None:
        self.state, self.real, self.device = state, real, device
        self.dtype = DTYPES[state.config.precision]
        self.order = DataOrder(state.config.seed, len(real))
        self.lo, self.hi = shard(state.config.batch, comm.rank, comm.world_size)

    def next_real(self) -> torch.Tensor:
        """Return this rank's share of the next reals, (n, *shape), in the range of the run."""
        at = self.state.progress.images
        pixels = self.real[self.order.indices(at + self.lo, at + self.hi)]
        config = self.state.config
        self.state.progress.images += config.batch
        on_device = torch.from_numpy(pixels).to(self.device)
        return to_range(on_device, self.dtype, config.range)

    def next_latents(self) -> torch.Tensor:
        """Return this rank's share of the next latents, (n, latent_dim)."""
        config, at = self.state.config, self.state.progress.latents
        latents = draw_latents(
            config.latents,
            config.seed,
            Purpose.LATENTS,
            at + self.lo,
            at + self.hi,
            config.latent_dim,
        )
        self.state.progress.latents += config.batch
        return torch.from_numpy(latents).to(self.dtype).to(self.device)
