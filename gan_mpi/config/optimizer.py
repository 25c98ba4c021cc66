"""How one player learns."""

from dataclasses import dataclass

from gan_mpi.config.setting import setting
from gan_mpi.config.values import Ramp, along

OPTIMIZERS: dict[str, dict[str, float]] = {
    "fsadagrad": {
        "lr": 5e-5,
        "momentum": 0.9985724484938566,
        "beta2": 0.9999986111120757,
    },
    "adam": {"lr": 2e-4, "beta1": 0.5, "beta2": 0.999, "epsilon": 1e-8},
    "sgd": {"lr": 0.05, "momentum": 0.9},
}
RATES = ("lr", "beta1", "beta2", "momentum", "epsilon")
SCHEDULES = ("constant", "linear", "cosine", "step")


def _defaults_of(name: str) -> str:
    return ", ".join(f"{s[name]:.10g} {kind}" for kind, s in OPTIMIZERS.items() if name in s)


@dataclass(frozen=True)
class OptimizerConfig:
    """How one player learns.  A rate or momentum that the optimizer does not use is None."""

    optimizer: str = setting("fsadagrad", "Optimizers", "Update rule.", choices=tuple(OPTIMIZERS))
    lr: float | str | None = setting(
        None,
        "Optimizers",
        "Learning rate: of fsadagrad per sample, as CNTK gives it, else per update.",
        type=float,
        ramps=True,
        above=0,
        shown_default=_defaults_of("lr"),
    )
    beta1: float | None = setting(
        None,
        "Optimizers",
        "Decay of adam's mean gradient, per update.",
        type=float,
        minimum=0,
        below=1,
        shown_default=_defaults_of("beta1"),
    )
    beta2: float | str | None = setting(
        None,
        "Optimizers",
        "Decay of the mean squared gradient: of fsadagrad per sample, of adam per update.",
        type=float,
        ramps=True,
        minimum=0,
        below=1,
        shown_default=_defaults_of("beta2"),
    )
    momentum: float | None = setting(
        None,
        "Optimizers",
        "Momentum: of fsadagrad per sample, of sgd per update.",
        type=float,
        minimum=0,
        below=1,
        shown_default=_defaults_of("momentum"),
    )
    epsilon: float | None = setting(
        None,
        "Optimizers",
        "What adam adds to the root of the mean squared gradient.",
        type=float,
        above=0,
        shown_default=_defaults_of("epsilon"),
    )
    lr_schedule: str = setting(
        "constant",
        "Optimizers",
        "Learning rate over the run: linear and cosine fall to 0 at its end, step is divided by "
        "10 at one half and at three quarters.",
        choices=SCHEDULES,
    )
    warmup: float = setting(
        0.0,
        "Optimizers",
        "Raise the learning rate linearly over the first so many thousand real images.",
        minimum=0,
        maximum=1e12,
        metavar="KIMG",
    )

    @property
    def settings(self) -> dict[str, Ramp]:
        """The rates and momenta that the optimizer uses."""
        return {name: getattr(self, name) for name in OPTIMIZERS[self.optimizer]}

    def settings_at(self, share: float) -> dict[str, float]:
        """Return these once a share of the way of those that change is behind them."""
        return {name: along(value, share) for name, value in self.settings.items()}

    @property
    def moments(self) -> int:
        """The numbers that the update rule keeps of each weight."""
        return 2 if "beta2" in self.settings else int(bool(self.settings["momentum"]))


DEFAULT = OptimizerConfig()
