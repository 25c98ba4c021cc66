"""G_ema: the exponential moving average of G's weights over its updates."""

import copy

import torch
from torch import nn

from gan_mpi.config.values import Ramp, along, is_ramp
from gan_mpi.game.host import DeviceUpdate
from gan_mpi.networks.generator import Generator
from gan_mpi.runs.checkpoint import SavedEMA

RAMP = 0.05  # the half-life is at most this share of all images so far


class GeneratorEMA:
    """An averaged copy of a generator, which every rank keeps alike.

    Its half-life is so many thousand images of G's own batches, less at the start, as in
    training_loop.py of StyleGAN2-ADA; or it goes from one number to another, and is 0 as long as
    there is no average.  Running statistics are averaged as the weights are.
    """

    def __init__(self, generator: Generator, kimg: Ramp, batch: int, ramp: int = 0) -> None:
        """`ramp` is after how many updates a half-life given as FROM:TO is the latter."""
        self.generator, self.batch = generator, batch
        self.kimg, self.ramp = kimg, ramp
        self.updates = 0
        self.network = copy.deepcopy(generator).requires_grad_(False)

    @torch.no_grad()
    def update(self, update: DeviceUpdate | None = None) -> None:
        """Move towards the generator as it is after an update."""
        averages, tensors = _tensors(self.network), _tensors(self.generator)
        if update is None:
            torch._foreach_lerp_(averages, tensors, self._next_weight())
            return
        (weight,) = update.numbers(tensors[0], lambda: [(self._next_weight(), 0.0)])
        steps = torch._foreach_sub(tensors, averages)
        torch._foreach_mul_(steps, weight)
        torch._foreach_add_(averages, steps)

    def _next_weight(self) -> float:
        """Count an update; return how far it moves the average."""
        self.updates += 1
        half_life = 1000.0 * along(self.kimg, self.updates / self.ramp if self.ramp else 0.0)
        if not is_ramp(self.kimg):
            half_life = min(half_life, RAMP * self.updates * self.batch)
        return 1.0 - 0.5 ** (self.batch / half_life) if half_life else 1.0

    def restart(self) -> None:
        """Begin with the generator as it is now."""
        self.updates = 0
        self.network.load_state_dict(self.generator.state_dict())

    def to_dict(self) -> SavedEMA:
        """Return what a checkpoint holds of the average."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load(self, saved: SavedEMA) -> None:
        """Continue from what `to_dict` returned."""
        self.network.load_state_dict(dict(saved["network"]))
        self.updates = saved["updates"]


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in network.state_dict().values()]
