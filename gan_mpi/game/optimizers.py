"""The optimizers, and learning rates as functions of the images seen."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor

from gan_mpi.game.host import DeviceUpdate, Host


def _spare_the_compiler() -> None:
    """Let torch's optimizers run without importing its compiler, which nothing here uses.

    Their methods import torch._dynamo when first called, to exempt themselves from it: over a
    second and a thousand files, on every rank.
    """
    for method in vars(torch.optim.Optimizer).values():
        exempt = getattr(method, "__wrapped__", None)
        if exempt is not None:
            setattr(exempt, "__dynamo_disable", exempt)


_spare_the_compiler()


# Optimizers by name, each with settings of its own.
Kinds = Mapping[str, Callable[..., torch.optim.Optimizer]]  # type: ignore[explicit-any]


class OnDevice:
    """An optimizer of parameters on a device."""

    update: DeviceUpdate  # the one that it does


@torch.no_grad()
def apply_update(optimizer: torch.optim.Optimizer, update: DeviceUpdate | None = None) -> None:
    """Do optimizer.step(), without its wrappers that import the compiler.

    Every parameter is then known to have changed, which torch's fused Adam does not say by itself.
    `update` is for one that is OnDevice; without it, it changes whatever comes.
    """
    if isinstance(optimizer, OnDevice):
        optimizer.update = update or DeviceUpdate(_true_beside(optimizer), Host())
    inspect.unwrap(type(optimizer).step)(optimizer)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            torch.autograd.graph.increment_version(parameter)


def _true_beside(optimizer: torch.optim.Optimizer) -> Tensor:
    parameter: Tensor = optimizer.param_groups[0]["params"][0]
    return torch.ones((), dtype=torch.bool, device=parameter.device)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, object]) -> None:
    """Load a state that may have been saved on another kind of device.

    How an optimizer computes (fused, foreach) stays its own, and one that is OnDevice counts its
    updates on the host.
    """
    (before,) = map(dict, optimizer.param_groups)
    optimizer.load_state_dict(dict(saved))
    for way in {"fused", "foreach"} & before.keys():
        optimizer.param_groups[0][way] = before[way]
    for state in optimizer.state.values() if isinstance(optimizer, OnDevice) else ():
        if "step" in state:
            state["step"] = state["step"].cpu()


class FSAdaGrad(torch.optim.Optimizer):
    """CNTK's FSAdaGrad on the mean gradient of a global batch of M samples.

    With b1 = momentum**M and b2 = beta2**M (both are given per sample, as the learning rate
    is), g the mean gradient and t the number of updates:

        v = b2*v + (1-b2)*g*g
        x = g * min(sqrt(M) / sqrt(v / (1-b2**t)), 10*M)
        m = b1*m + (1-b1)*x
        w = w - lr*m

    The momentum is that of the normalised gradient, without bias correction, and the cap of
    10 is on the ratio for the summed gradient.  Source: CPUMatrix::FSAdagrad and
    LearnerFSAdaGrad of CNTK 2, which take the sum of the gradients.
    """

    CAP = 10.0

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float,
        beta2: float,
        batch: int,
    ) -> None:
        super().__init__(
            parameters,
            {"lr": lr, "b1": momentum**batch, "b2": beta2**batch, "batch": batch},
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter from its .grad, the mean over the global batch."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if not self.state[parameter]:
                    self.state[parameter] = {
                        "step": torch.zeros((), dtype=torch.float64),
                        "variance": torch.zeros_like(parameter),
                        "smoothed": torch.zeros_like(parameter),
                    }
            self._update(group["params"], group)

    def _update(self, parameters: list[torch.Tensor], group: Mapping[str, float]) -> None:
        b1, b2, batch = group["b1"], group["b2"], group["batch"]
        states = [self.state[parameter] for parameter in parameters]
        gradients = [p.grad for p in parameters if p.grad is not None]
        assert len(gradients) == len(parameters), "the bucket's views are the gradients"
        variances = [state["variance"] for state in states]
        smoothed = [state["smoothed"] for state in states]
        torch._foreach_add_([state["step"] for state in states], 1)
        done = float(states[0]["step"])
        torch._foreach_mul_(variances, b2)
        torch._foreach_addcmul_(variances, gradients, gradients, 1 - b2)
        scales = torch._foreach_sqrt(variances)
        torch._foreach_reciprocal_(scales)
        torch._foreach_mul_(scales, math.sqrt(batch * (1 - b2**done)))
        torch._foreach_clamp_max_(scales, self.CAP * batch)
        torch._foreach_mul_(scales, gradients)  # now the normalised gradients
        torch._foreach_mul_(smoothed, b1)
        torch._foreach_add_(smoothed, scales, alpha=1 - b1)
        torch._foreach_add_(parameters, smoothed, alpha=-group["lr"])


ON_HOST: Kinds = {
    "fsadagrad": FSAdaGrad,
    "adam": partial(torch.optim.Adam, fused=True),
    "sgd": partial(torch.optim.SGD, foreach=True),
}


def make_optimizer(
    kind: str,
    parameters: Iterable[torch.nn.Parameter],
    settings: dict[str, float],
    batch: int,
    kinds: Kinds = ON_HOST,
) -> torch.optim.Optimizer:
    """Return a 'fsadagrad', 'adam' or 'sgd' over the mean gradient of `batch` samples.

    `kinds` are those of the host, or ON_DEVICE of game/device_optimizers.py.
    """
    lr = settings["lr"]
    if kind == "fsadagrad":
        return kinds[kind](parameters, lr, settings["momentum"], settings["beta2"], batch)
    if kind == "adam":
        betas = settings["beta1"], settings["beta2"]
        return kinds[kind](parameters, lr, betas, settings["epsilon"])
    if kind == "sgd":
        return kinds[kind](parameters, lr, settings["momentum"])
    raise ValueError(f"no optimizer is called {kind!r}")


def schedule_factor(schedule: str, done: float) -> float:
    """Return what the learning rate is multiplied by once a share `done` of the images is seen.

    'linear' and 'cosine' fall from 1 to 0; 'step' is divided by 10 at one half and again at
    three quarters.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return max(0.0, 1.0 - done)
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    if schedule == "step":
        return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
    raise ValueError(f"no schedule is called {schedule!r}")
