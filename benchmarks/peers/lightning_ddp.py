"""PyTorch Lightning, whose page on manual optimization has a GAN, with its strategy for processes.

One backward of a step reaches one of the two networks, which its DDP has to be told.  Started by
torchrun; batch norm is of each process, since torch has none over all on a CPU.
"""

import gc
import logging
import os
import time
import warnings

import lightning
import torch
import torch.distributed as dist
from loop import Options, networks, optimizer, options, report
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset

from gan_mpi.networks.pixels import to_range


class Gan(lightning.LightningModule):
    """Both networks, and a step of the schedule."""

    def __init__(self, given: Options) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config = given.config
        self.G, self.D = networks(given.config, tuple(given.images.shape[1:]))
        self.seconds: list[float] = []
        self.before = time.perf_counter()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return those of both players."""
        return [optimizer(self.config, self.G, "G"), optimizer(self.config, self.D, "D")]

    def training_step(self, batch: list[Tensor], number: int) -> None:
        """Update the players in turn, D on its part of the batch each time."""
        of_G, of_D = self.optimizers()  # type: ignore[misc]
        reals = iter(batch[0].chunk(self.config.turn.count("D")))
        for player in self.config.turn:
            mine = of_D if player == "D" else of_G
            self.toggle_optimizer(mine)
            loss = self._of_D(next(reals)) if player == "D" else self._of_G(len(batch[0]))
            mine.zero_grad()
            self.manual_backward(loss)
            mine.step()
            self.untoggle_optimizer(mine)
        now = time.perf_counter()
        self.seconds.append(now - self.before)
        self.before = now

    def _latents(self, count: int) -> Tensor:
        return torch.rand(count, self.config.latent_dim, device=self.device) * 2 - 1

    def _of_D(self, pixels: Tensor) -> Tensor:
        real = to_range(pixels, torch.float32, self.config.range)
        fake = self.G(self._latents(len(real))).detach()
        shape, at = (len(real), 1), self.device
        ones, zeros = torch.ones(shape, device=at), torch.zeros(shape, device=at)
        loss = binary_cross_entropy_with_logits(self.D(real), ones)
        return loss + binary_cross_entropy_with_logits(self.D(fake), zeros)

    def _of_G(self, count: int) -> Tensor:
        size = count // self.config.turn.count("D")
        logits = self.D(self.G(self._latents(size)))
        return binary_cross_entropy_with_logits(logits, torch.ones(size, 1, device=self.device))


def main() -> None:
    """Train; nothing that is left afterwards holds gloo's threads."""
    given = options()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    world = int(os.environ["WORLD_SIZE"])
    gan = Gan(given)
    share = given.config.batch // world * given.config.turn.count("D")
    images = TensorDataset(given.images.cpu())
    on_gpu = given.device.type == "cuda"
    loader = DataLoader(images, share, shuffle=True, drop_last=True, pin_memory=on_gpu)
    trainer = lightning.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=world,
        strategy="ddp_find_unused_parameters_true" if world > 1 else "auto",
        max_steps=given.steps * len(given.config.turn),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(gan, loader)
    if trainer.is_global_zero:
        report(gan.seconds)


if __name__ == "__main__":
    main()
    if dist.is_initialized():  # as in ddp.py
        gc.collect()
        dist.barrier()
        dist.destroy_process_group()
