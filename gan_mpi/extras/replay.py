"""Replay: D also sees fakes of earlier generators."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gan_mpi.arrays import Array
from gan_mpi.config.training import TrainConfig
from gan_mpi.game.batch import Batch
from gan_mpi.game.host import DeviceUpdate
from gan_mpi.mpi.comm import Communicator
from gan_mpi.runs.checkpoint import SavedReplay
from gan_mpi.streams import Purpose, shard, uniforms


class Replay:
    """A pool of old fakes, `depth` for every place in the global batch.

    One half of the time, each sample for itself, D gets a fake of the pool, and the new one takes
    its place there.  Shrivastava et al., arXiv 1612.07828, 2.3; the pool as in ImagePool of
    CycleGAN.  A rank keeps what belongs to its places in the batch, so that nothing is sent, and
    all ranks together have one pool whatever their number.
    """

    def __init__(self, comm: Communicator, config: TrainConfig) -> None:
        self.depth, self.seed = config.replay, config.seed
        self.lo, self.hi = shard(config.batch, comm.rank, comm.world_size)
        self.count = 0  # batches seen in updates that are done
        self.images = self.labels = torch.empty(0)
        self._coming: list[tuple[Tensor, Tensor, Tensor]] = []  # a pool, its rows, their values

    def draw(self, kind: str, first: int, last: int) -> dict[str, Array]:
        """Return which of the fakes first..last are exchanged, and for which of their place."""
        if kind == "real":
            return {}
        drawn = uniforms(self.seed, Purpose.REPLAY, first, last, 2)
        depths = (drawn[:, 1] * self.depth).astype(np.int64)
        return {"exchanged": drawn[:, 0] < 0.5, "depths": depths}

    def exchange(self, fake: Batch) -> Batch:
        """Return the fakes that D gets in the place of these, one part of a batch after another.

        Those that go into the pool are there after commit().
        """
        if not len(self.images):
            room = self.depth, len(fake) if fake.share is None else fake.share
            self.images = fake.values.new_zeros(*room, *fake.values.shape[1:])
            kind = fake.values if fake.labels is None else fake.labels
            self.labels = kind.new_zeros(room)
        exchanged, depths = fake.drawn["exchanged"], fake.drawn["depths"]
        if not self.is_full:
            exchanged, depths = torch.ones_like(exchanged), torch.full_like(depths, self.count)
        places = torch.arange(fake.place, fake.place + len(fake), device=depths.device)
        rows, old = depths * self.images.shape[1] + places, {}
        for name, pool in (("values", self.images), ("labels", self.labels)):
            new: Tensor | None = getattr(fake, name)
            if new is not None:
                flat = pool.flatten(0, 1)  # a view
                goes = exchanged.view(-1, *[1] * (new.dim() - 1))
                old[name] = torch.where(goes, flat[rows], new)
                self._coming.append((flat, rows, torch.where(goes, new, flat[rows])))
        if not self.is_full:
            return fake
        return replace(fake, values=old["values"], labels=old.get("labels"))

    @property
    def is_full(self) -> bool:
        """Whether every place has a fake."""
        return self.count >= self.depth

    def commit(self, update: DeviceUpdate | None = None) -> None:
        """Put into the pool what goes there with an update of D."""
        for flat, rows, new in self._coming:
            flat.index_copy_(0, rows, new if update is None else update.choose(new, flat[rows]))
        if not self._coming:
            return
        if update is None:
            self._count()
        else:
            update.host.each_time(self._count)
        self._coming.clear()

    def forget(self) -> None:
        """Leave out what was to go there with an update that is not done."""
        self._coming.clear()

    def _count(self) -> None:
        self.count += 1

    def gather(self, comm: Communicator) -> SavedReplay:
        """Return the whole pool on root, for a checkpoint.  Collective."""
        parts = comm.gather((self.images.cpu(), self.labels.cpu()))
        whole = [self.images, self.labels]
        if parts and self.count:
            whole = [torch.cat(each, dim=1) for each in zip(*parts, strict=True)]
        return {"count": self.count, "images": whole[0], "labels": whole[1]}

    def load(self, saved: SavedReplay, device: torch.device) -> None:
        """Continue from what `gather` returned, with the places of this rank."""
        self.count = saved["count"]
        if self.count:
            self.images = saved["images"][:, self.lo : self.hi].to(device, copy=True)
            self.labels = saved["labels"][:, self.lo : self.hi].to(device, copy=True)
