"""Arithmetic a second: of a step, and of what is largest in it alone."""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gan_mpi.bench.steps import Stage
from gan_mpi.networks.describe import describe
from gan_mpi.parallel.linear import has_onednn

SIDE = 1024  # of the matrices
REPEATS = 15
MIXED = 20  # steps of which the mean is taken, where one trains G and another D
LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class Rates:
    """What a rank computes, in 1e9 operations; a product and a sum are two.

    Only matrix products and convolutions are counted.
    """

    of_step: float
    matrices: float  # a second, in the product of two SIDE x SIDE matrices
    layer: str  # the one with most operations, and the shape of its inputs
    of_layer: float  # a second, forward, alone


def measure_rates(stage: Stage) -> Rates:
    """Measure on all ranks at once, so that all cores are busy; return this rank's.  Collective."""
    stage.comm.barrier()
    count = MIXED if stage.state.config.schedule == "balance" else stage.period
    of_step = sum(_operations(stage.step) for _ in range(count)) / count
    layer, shape = _largest_layer(stage)
    kind = next(layer.parameters())
    dtype = torch.bfloat16 if stage.state.config.precision == "bf16" else kind.dtype
    alone = copy.deepcopy(layer).to(dtype)  # between layers of a step nothing is rounded either
    inputs = torch.ones(shape, dtype=dtype, device=kind.device)
    matrix = torch.ones(SIDE, SIDE, dtype=dtype, device=kind.device)

    def of_layer() -> None:
        with torch.no_grad():
            alone(inputs)

    def product() -> None:
        torch.mm(matrix, matrix)

    return Rates(
        of_step=of_step,
        matrices=2e-9 * SIDE**3 / _seconds(product, kind.device),
        layer=f"{describe(layer)} of {'x'.join(map(str, shape))}",
        of_layer=_operations(of_layer) / _seconds(of_layer, kind.device),
    )


class _Counter(TorchDispatchMode):
    """Counts operations by torch's own formulas.

    Its FlopCounterMode follows modules too, and refuses gradients that are differentiated again.
    """

    operations = 0

    def __init__(self) -> None:
        super().__init__()
        self.formulas: dict[Any, Callable[..., int]] = dict(flop_registry)
        if has_onednn():
            self.formulas[torch.ops.mkldnn._linear_pointwise] = _of_linear

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        outputs = function(*args, **(kwargs or {}))
        formula = self.formulas.get(function.overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **(kwargs or {}), out_val=outputs)
        return outputs


def _of_linear(inputs: Tensor, weight: Tensor, *_: object, out_val: Tensor) -> int:
    """Return the operations of (N, in) times (out, in), which torch has no formula for."""
    return 2 * len(inputs) * weight.numel()


def _operations(function: Callable[[], None]) -> float:
    with _Counter() as counter:
        function()
    return counter.operations / 1e9


def _seconds(function: Callable[[], None], device: torch.device) -> float:
    """Return the median time of a call, after a few."""
    seconds = []
    for _ in range(REPEATS + 3):
        began = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[3:])


def _largest_layer(stage: Stage) -> tuple[nn.Module, torch.Size]:
    """Return the layer with most operations, and the shape of its inputs.  Collective."""
    game, seen = stage.state.game, dict[nn.Module, torch.Size]()

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[layer] = inputs[0].shape

    players = game.G.network, game.D.network
    layers = [m for network in players for m in network.modules() if isinstance(m, LAYERS)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    stage.step()
    for hook in hooks:
        hook.remove()

    def work(layer: nn.Module) -> float:
        kind = next(layer.parameters())
        inputs = torch.ones(seen[layer], dtype=kind.dtype, device=kind.device)
        with torch.no_grad():
            return _operations(lambda: layer(inputs))

    largest = max(seen, key=work)
    return largest, seen[largest]
