"""Losses and weights of a device beside those of the CPU: parity.py DEVICE STEPS, on any ranks.

Prints a line of JSON for each case; ends with 1 if one is apart.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_mpi.cluster.device import place, room_for_data
from gan_mpi.config.presets import PRESETS
from gan_mpi.datasets.find import load_dataset
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import leave, world
from gan_mpi.parallel import staging
from gan_mpi.training.build import build_state
from gan_mpi.training.feed import Feed
from gan_mpi.training.start import Start, find_start
from gan_mpi.training.supply import Supply
from gan_mpi.training.turn import Turn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ranks.training import idle_parameters

LIMITS = {"fp64": 1e-9, "fp32": 1e-3}
ALL = {"replay": 2, "instance_noise": 0.1, "gradient_penalty": 10.0, "ema": 10.0, "g_dropout": 0.2}
CASES: dict[str, dict[str, object]] = {name: {"preset": name} for name in PRESETS}
CASES["dcgan and extras"] = {"preset": "dcgan", "conditional": "projection", **ALL}
CASES["spectral norm and R1"] = {"preset": "dcgan", "d_norm": "spectral", "r1": 1.0}
CASES["balance"] = {"preset": "dcgan", "schedule": "balance"}
SEVERAL = ("basic", "dcgan", "dcgan and extras", "spectral norm and R1")  # on several ranks

Found = tuple[float, str]  # how far the worst tensor is apart, and which it is


def trained(comm: Communicator, start: Start, device: str, steps: int) -> dict[str, Tensor]:
    """Return the losses of each step and, in float64, the weights after the last.  Collective.

    In float32 Adam makes a step of a gradient that is nothing but rounding, as it does in float64
    of those of biases before a batch norm, which are left out.
    """
    at = place(comm, device).device
    data = load_dataset(start.source)
    state = build_state(comm, start, data, at)
    room = room_for_data(at, comm.local_size)
    supply = Supply(comm, state.game, Feed(comm, state, data, at, room=room))
    found: dict[str, list[float]] = {}
    for _ in range(steps):
        Turn(comm, state, supply, StopRequest()).play()
        for name, loss in state.losses.items():
            found.setdefault(name, []).append(loss)
    tensors = {name: torch.tensor(losses).double() for name, losses in found.items()}
    for player, network in state.networks.items() if start.config.precision == "fp64" else ():
        idle = idle_parameters(state.networks[player.removesuffix("_ema")])
        for name, tensor in network.state_dict().items():
            if name not in idle:
                tensors[f"{player}.{name}"] = tensor.detach().cpu().double()
    return tensors


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> Found:
    """Return the largest distance of tensors, as a share of the larger numbers, and its name."""
    gaps = {}
    for name, tensor in one.items():
        scale = max(1e-2, tensor.abs().max().item())
        gaps[name] = (tensor - other[name]).abs().max().item() / scale
    worst = max(gaps, key=lambda name: gaps[name])
    return gaps[worst], worst


def drawn_colours(folder: str) -> str:
    """Write random pictures of the shape of CIFAR-10's; return their folder."""
    pixels = np.random.default_rng(0).integers(0, 256, (500, 32, 32, 3), np.uint8)
    np.savez(Path(folder, "colours.npz"), x_train=pixels, y_train=np.arange(500) % 10)
    return folder


def treated_as_a_device(comm: Communicator, start: Start, steps: int) -> dict[str, Tensor]:
    """Train on a CPU as on a device whose numbers the host does not see.  Collective."""
    plain, staging.is_host = staging.is_host, lambda _: False
    try:
        return trained(comm, start, "cpu", steps)
    finally:
        staging.is_host = plain


def compare(
    comm: Communicator, given: dict[str, object], device: str, steps: int
) -> dict[str, object]:
    """Return how far a case on a device is from the CPU, and whether that is near.  Collective.

    Where it is not, the CPU itself is tried with the arithmetic of a device: Adam makes whole steps
    of gradients that are nothing but rounding, and what rounding does there it may do here, thrice.
    """
    limit = LIMITS[str(given["precision"])]
    with tempfile.TemporaryDirectory() as folder:
        options = {**given, "batch": 32, "steps": steps}
        if given["preset"] == "paddle-cifar":
            options["datadir"] = drawn_colours(folder)
        elif given["preset"] != "paddle-uniform":
            options["glyphs"] = 500
        start = find_start(options)
        on_cpu = trained(comm, start, "cpu", steps)
        if device == "cpu":
            other = treated_as_a_device(comm, start, steps)
        else:
            other = trained(comm, start, device, steps)
        gap, where = apart(on_cpu, other)
        found = {"passed": gap <= limit, "apart": gap, "where": where}
        if any(comm.allgather(gap > limit)) and limit == LIMITS["fp32"]:
            rounding, _ = apart(on_cpu, treated_as_a_device(comm, start, steps))
            found |= {"passed": gap <= max(limit, 3 * rounding), "rounding alone": rounding}
    return found


def main() -> int:
    device, steps, failed = sys.argv[1], int(sys.argv[2]), 0
    comm = world()
    for name in CASES if comm.world_size == 1 else SEVERAL:
        for precision in LIMITS:
            begin = time.perf_counter()
            found = compare(comm, {**CASES[name], "precision": precision}, device, steps)
            failed += not found["passed"]
            if comm.is_root:
                seconds = round(time.perf_counter() - begin, 1)
                about = {"name": f"{name}, {precision}", "seconds": seconds}
                print(json.dumps({**about, **found}), flush=True)
    leave()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
