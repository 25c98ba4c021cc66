"""The optimizers where parameters are on a device, which may find out that it must not update.

Their numbers are reckoned on the host in float64, and lie beside the parameters: then a device can
take others, which change nothing, without that anybody waits for it.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gan_mpi.game.host import Pair
from gan_mpi.game.optimizers import FSAdaGrad, Kinds, OnDevice

Tensors = list[Tensor] | tuple[Tensor, ...]


class DeviceFSAdaGrad(OnDevice, FSAdaGrad):
    """CNTK's FSAdaGrad, as game/optimizers.py has it."""

    def _update(self, parameters: list[Tensor], group: Mapping[str, float]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        gradients = _gradients(parameters)
        variances = [state["variance"] for state in states]
        smoothed = [state["smoothed"] for state in states]
        batch = group["batch"]

        def reckon() -> list[Pair]:
            b1, b2 = group["b1"], group["b2"]
            torch._foreach_add_([state["step"] for state in states], 1)
            correction = 1 - b2 ** float(states[0]["step"])
            factor = math.sqrt(batch * correction)
            return [(b1, 1), (1 - b1, 0), (b2, 1), (1 - b2, 0), (factor, 1), (-group["lr"], 0)]

        keep1, new1, keep2, new2, scale, rate = self.update.numbers(parameters[0], reckon)
        _move_average(variances, torch._foreach_mul(gradients, gradients), keep2, new2)
        scales = torch._foreach_sqrt(variances)
        torch._foreach_reciprocal_(scales)
        torch._foreach_mul_(scales, scale)
        torch._foreach_clamp_max_(scales, self.CAP * batch)
        torch._foreach_mul_(scales, gradients)  # now the normalised gradients
        _move_average(smoothed, scales, keep1, new1)
        torch._foreach_add_(parameters, torch._foreach_mul(smoothed, rate))


class DeviceAdam(OnDevice, torch.optim.Adam):
    """Adam, arXiv 1412.6980, with the states of torch's."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter from its .grad."""
        for group in self.param_groups:
            parameters = group["params"]
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter] = {
                        "step": torch.zeros(()),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
            states = [self.state[parameter] for parameter in parameters]
            gradients, means = _gradients(parameters), [state["exp_avg"] for state in states]
            squares = [state["exp_avg_sq"] for state in states]
            keep1, new1, keep2, new2, unbiased, rate = self.update.numbers(
                parameters[0], partial(self._reckon, group)
            )
            _move_average(means, gradients, keep1, new1)
            _move_average(squares, torch._foreach_mul(gradients, gradients), keep2, new2)
            deviations = torch._foreach_sqrt(squares)
            torch._foreach_mul_(deviations, unbiased)
            torch._foreach_add_(deviations, group["eps"])
            steps = torch._foreach_div(means, deviations)
            torch._foreach_mul_(steps, rate)
            torch._foreach_add_(parameters, steps)

    def _reckon(self, group: Mapping[str, Any]) -> list[Pair]:  # type: ignore[explicit-any]
        """Count an update of all; return its numbers."""
        steps = [kept["step"] for kept in self.state.values()]
        torch._foreach_add_(steps, 1)
        (b1, b2), done = group["betas"], float(steps[0])
        unbiased, rate = (1 - b2**done) ** -0.5, -group["lr"] / (1 - b1**done)
        return [(b1, 1), (1 - b1, 0), (b2, 1), (1 - b2, 0), (unbiased, 1), (rate, 0)]


class DeviceSGD(OnDevice, torch.optim.SGD):
    """Stochastic gradient descent with momentum, with the states of torch's."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter from its .grad."""
        for group in self.param_groups:
            parameters, momentum = group["params"], group["momentum"]
            steps = gradients = _gradients(parameters)
            keep, rate = self.update.numbers(parameters[0], partial(_of_sgd, group))
            if momentum:
                steps = [self._momentum(parameter) for parameter in parameters]
                torch._foreach_mul_(steps, keep)
                torch._foreach_add_(steps, gradients)
            torch._foreach_add_(parameters, torch._foreach_mul(steps, rate))

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        kept: Tensor = state["momentum_buffer"]
        return kept


def _of_sgd(group: Mapping[str, float]) -> list[Pair]:
    return [(group["momentum"], 1), (-group["lr"], 0)]


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    assert len(gradients) == len(parameters), "the bucket's views are the gradients"
    return gradients


def _move_average(averages: list[Tensor], values: Tensors, keep: Tensor, new: Tensor) -> None:
    """Replace averages by keep * averages + new * values."""
    torch._foreach_mul_(averages, keep)
    torch._foreach_add_(averages, torch._foreach_mul(values, new))


ON_DEVICE: Kinds = {"fsadagrad": DeviceFSAdaGrad, "adam": DeviceAdam, "sgd": DeviceSGD}
