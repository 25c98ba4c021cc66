"""A training loop as PyTorch's own pages write it: networks, data and schedule are gan-mpi's.

The networks have torch's own layers, with activations in place, as PyTorch's page on DCGAN has
them. What the gradients of several processes have to do with each other is up to who calls: see
ddp.py, plain.py and each_tensor.py.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from gan_mpi.config.resolve import new_config
from gan_mpi.config.training import TrainConfig
from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.networks.build import build_discriminator, build_generator
from gan_mpi.networks.layers import ConvTranspose2d
from gan_mpi.networks.pixels import to_range
from gan_mpi.parallel.batch_norm import BatchNorm
from gan_mpi.parallel.linear import Linear

RECORDS = 50  # means over so many parts of a run, as gan-mpi writes down
WARM = 0.2  # share of them that do not count


@dataclass
class Options:
    """What is trained, and how long."""

    config: TrainConfig
    images: Tensor  # uint8 (N, C, H, W), on the device
    steps: int
    device: torch.device


def options() -> Options:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", required=True)
    parser.add_argument("--batch", type=int, required=True, help="images over all processes")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--datadir")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "tf32"), default="fp32")
    given = parser.parse_args()
    config = new_config({"preset": given.preset, "batch": given.batch, "steps": given.steps})
    if (
        config.schedule != "steps"
        or config.loss not in ("sum", "mean", "nonsaturating")
        or config.conditional != "no"
        or config.d_update != "joint"
        or config.r1
    ):
        raise SystemExit(f"{given.preset} has a schedule, loss or labels that this loop has not")
    glyphs = 2000 if given.datadir is None else None
    data = load_dataset(Source(given.datadir, glyphs))
    device = torch.device(given.device)
    torch.backends.cuda.matmul.allow_tf32 = given.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = given.precision == "tf32"
    return Options(config, torch.from_numpy(data.images.copy()).to(device), given.steps, device)


def _torchs(layer: nn.Module) -> nn.Module:
    """Return torch's own layer in the place of one of gan-mpi's."""
    if isinstance(layer, ConvTranspose2d):
        return nn.ConvTranspose2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.output_padding,
        )
    if isinstance(layer, Linear):
        return nn.Linear(layer.in_features, layer.out_features)
    return layer


def networks(config: TrainConfig, shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    """Return generator and discriminator with torch's own layers."""
    found = []
    for network in (build_generator(config, shape), build_discriminator(config, shape)):
        layers: list[nn.Module] = []
        maps = True
        for layer in network.children():
            maps = not isinstance(layer, (nn.Linear, nn.Flatten)) and (
                maps or type(layer).__name__ == "View"
            )
            if isinstance(layer, BatchNorm):
                kind = nn.BatchNorm2d if maps else nn.BatchNorm1d
                layer = kind(len(layer.bias), layer.eps, layer.momentum)
            layers.append(_torchs(layer))
        found.append(nn.Sequential(*layers).float())
    return found[0], found[1]


def optimizer(config: TrainConfig, network: nn.Module, player: str) -> torch.optim.Optimizer:
    """Return fused Adam, at the rate of the preset."""
    settings = (config.G if player == "G" else config.D).settings
    return torch.optim.Adam(network.parameters(), settings["lr"], (0.5, 0.999), fused=True)


def train(
    given: Options,
    G: nn.Module,
    D: nn.Module,
    frozen: nn.Module,
    rank: int,
    count: int,
    after_backward: Callable[[nn.Module], None] = lambda network: None,
) -> None:
    """Train, and print the median of the seconds of a step on the first process.

    `frozen` is D as G's update sees it, without a gradient of its own.
    """
    config, batch, device = given.config, given.config.batch // count, given.device
    optimizers = {"G": optimizer(config, G, "G"), "D": optimizer(config, D, "D")}
    order = torch.randperm(len(given.images))[rank::count]
    order = order.to(device)
    ones, zeros = torch.ones(batch, 1, device=device), torch.zeros(batch, 1, device=device)
    at, seconds = 0, []
    for _ in range(given.steps):
        began = time.perf_counter()
        for player in config.turn:
            latents = torch.rand(batch, config.latent_dim, device=device) * 2 - 1
            optimizers[player].zero_grad(set_to_none=True)
            if player == "D":
                rows = order[torch.arange(at, at + batch, device=device) % len(order)]
                at += batch
                real = to_range(given.images[rows], torch.float32, config.range)
                with torch.no_grad():
                    fake = G(latents)
                loss = binary_cross_entropy_with_logits(D(real), ones)
                loss = loss + binary_cross_entropy_with_logits(D(fake), zeros)
                loss.backward()
                after_backward(D)
            else:
                for parameter in frozen.parameters():
                    parameter.requires_grad_(False)
                binary_cross_entropy_with_logits(frozen(G(latents)), ones).backward()
                for parameter in frozen.parameters():
                    parameter.requires_grad_(True)
                after_backward(G)
            optimizers[player].step()
        seconds.append(time.perf_counter() - began)
    if rank == 0:
        report(seconds)


def report(seconds: list[float]) -> None:
    """Print the median over parts of a run of the mean seconds of a step."""
    several = max(1, len(seconds) // RECORDS)
    parts = range(0, len(seconds) - several + 1, several)
    means = [statistics.mean(seconds[begin : begin + several]) for begin in parts]
    counted = means[int(WARM * len(means)) :]
    print(json.dumps({"seconds_per_step": statistics.median(counted)}))
