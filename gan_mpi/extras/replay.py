"""Replay: D also sees fakes of earlier generators."""

from dataclasses import replace

import torch
from torch import Tensor

from gan_mpi.config.training import TrainConfig
from gan_mpi.game.batch import Batch
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
        self.count = 0  # batches seen
        self.images = self.labels = torch.empty(0)

    def exchange(self, fake: Batch) -> Batch:
        """Return the fakes that D gets in the place of these, one part of a batch after another."""
        if not self.count:
            room = self.depth, len(fake) if fake.share is None else fake.share
            self.images = fake.values.new_zeros(*room, *fake.values.shape[1:])
            kind = fake.values if fake.labels is None else fake.labels
            self.labels = kind.new_zeros(room)
        self.count += fake.place == 0
        rows = torch.arange(len(fake), device=fake.values.device)
        if self.count <= self.depth:
            self._put(torch.full_like(rows, self.count - 1), rows, fake)
            return fake
        drawn = uniforms(self.seed, Purpose.REPLAY, fake.first, fake.first + len(fake), 2)
        swapped = torch.from_numpy(drawn[:, 0] < 0.5).to(rows.device)
        depths = torch.from_numpy((drawn[:, 1] * self.depth).astype("int64"))
        depths, rows = depths.to(rows.device)[swapped], rows[swapped]
        values, labels = fake.values.clone(), fake.labels
        values[rows] = self.images[depths, fake.place + rows]
        if labels is not None:
            labels = labels.clone()
            labels[rows] = self.labels[depths, fake.place + rows]
        old = replace(fake, values=values, labels=labels)
        self._put(depths, rows, fake)
        return old

    def _put(self, depths: Tensor, rows: Tensor, fake: Batch) -> None:
        self.images[depths, fake.place + rows] = fake.values[rows]
        if fake.labels is not None:
            self.labels[depths, fake.place + rows] = fake.labels[rows]

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
