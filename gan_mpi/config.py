"""What decides the result of a run, and where and how it runs; each option is written here once."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from gan_mpi.errors import UserError
from gan_mpi.presets import PRESETS

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
NETWORKS = ("dense", "dcgan", "dcgan-206b", "paddle", "paddle-points", "lightning")
DATASETS = ("mnist", "fashion-mnist", "cifar10", "uniform")


def setting(default: Any, group: str, help: str, **limits: Any) -> Any:
    """Return a dataclass field with all that its command-line option needs.

    `limits` may hold `flags` (other spellings), `choices`, `minimum`, `maximum`, `above` and
    `below` (exclusive), `type` (where the default is None), `metavar` and `shown_default`.
    """
    return field(default=default, metadata={"group": group, "help": help, **limits})


def _defaults_of(name: str) -> str:
    return ", ".join(
        f"{s[name]:.10g} {kind}" for kind, s in OPTIMIZERS.items() if name in s
    )


@dataclass(frozen=True)
class OptimizerConfig:
    """How one player learns.  A rate or momentum that the optimizer does not use is None."""

    optimizer: str = setting(
        "fsadagrad", "Optimizers", "Update rule.", choices=tuple(OPTIMIZERS)
    )
    lr: float | None = setting(
        None,
        "Optimizers",
        "Learning rate: of fsadagrad per sample, as CNTK gives it, else per update.",
        type=float,
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
    beta2: float | None = setting(
        None,
        "Optimizers",
        "Decay of the mean squared gradient: of fsadagrad per sample, of adam per update.",
        type=float,
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
        metavar="KIMG",
    )

    @property
    def settings(self) -> dict[str, float]:
        """The rates and momenta that the optimizer uses."""
        return {name: getattr(self, name) for name in OPTIMIZERS[self.optimizer]}


@dataclass(frozen=True)
class TrainConfig:
    """What decides the result.  A resume may change the number of steps, and nothing else."""

    preset: str = setting(
        "basic",
        "Everyday",
        "System to train; 'gan-mpi presets' lists them.",
        choices=tuple(PRESETS),
    )
    seed: int = setting(
        0, "Everyday", "Seed of every random number.", minimum=0, maximum=2**63 - 1
    )
    steps: int = setting(
        PRESETS["basic"].fast_steps,
        "Everyday",
        "Length in steps (turns of the schedule), instead of the preset's.",
        minimum=1,
        shown_default="the preset's",
    )
    dataset: str = setting(
        "mnist",
        "Everyday",
        "What is looked for where no --datadir is given; uniform draws points in the unit square.",
        choices=DATASETS,
    )
    network: str = setting(
        "dense",
        "Model",
        "Generator and discriminator; 'gan-mpi presets NAME' prints their layers.",
        choices=NETWORKS,
    )
    range: str = setting(
        "signed",
        "Model",
        "Range of the images: signed -1..1, unit 0..1, standard -0.42..2.82 (MNIST's mean 0, "
        "deviation 1). The generator ends in tanh, in a sigmoid for unit.",
        choices=("signed", "unit", "standard"),
    )
    latents: str = setting(
        "uniform",
        "Model",
        "Latents: uniform in -1..1, or normal.",
        choices=("uniform", "normal"),
    )
    latent_dim: int = setting(100, "Model", "Numbers in one latent.", minimum=1)
    loss: str = setting(
        "sum",
        "Model",
        "Loss of D on reals and on fakes: their sum, or their mean. That of G is -log D(G(z)), "
        "and 1 more with sum, as CNTK has it.",
        choices=("sum", "mean"),
    )
    batch: int = setting(
        1024,
        "Schedule",
        "Real images in one update, over all ranks.",
        minimum=1,
        maximum=2**24,
    )
    schedule: str = setting(
        "steps",
        "Schedule",
        "Who is trained in a step: both, so often as --d-steps and --g-steps say, or, to balance "
        "them, the one with the larger loss, at most five times running.",
        choices=("steps", "balance"),
    )
    d_steps: int = setting(
        2, "Schedule", "Discriminator updates in one step.", minimum=1
    )
    g_steps: int = setting(1, "Schedule", "Generator updates in one step.", minimum=1)
    g_latents: str = setting(
        "fresh",
        "Schedule",
        "Latents of each generator update of a step: fresh, or the first one's repeated.",
        choices=("fresh", "repeated"),
    )
    first: str = setting(
        "discriminator",
        "Schedule",
        "Player that begins a step.",
        choices=("generator", "discriminator"),
    )
    d_update: str = setting(
        "joint",
        "Schedule",
        "D learns from fakes and reals in one joint update, or in separate ones, fakes first.",
        choices=("joint", "separate"),
    )
    train: str = setting(
        "both",
        "Schedule",
        "Train both players, or one against the other as --transfer brings it.",
        choices=("both", "generator", "discriminator"),
    )
    precision: str = setting(
        "fp32",
        "Running",
        "Arithmetic of the networks and of the sums over ranks.",
        choices=("fp32", "fp64"),
    )
    G: OptimizerConfig = OptimizerConfig()
    D: OptimizerConfig = OptimizerConfig()

    @property
    def turn(self) -> tuple[str, ...]:
        """The players that a step of the schedule 'steps' updates, in order."""
        turns = {"discriminator": "D" * self.d_steps, "generator": "G" * self.g_steps}
        if self.train != "both":
            return tuple(turns[self.train])
        last = "generator" if self.first == "discriminator" else "discriminator"
        return tuple(turns[self.first] + turns[last])

    @property
    def images_per_step(self) -> int:
        """Real images that a step consumes, over all ranks."""
        batches = 1 if self.schedule == "balance" else self.turn.count("D")
        return batches * self.batch


@dataclass(frozen=True)
class RunConfig:
    """Where and how a run runs; none of it changes the result."""

    datadir: str | None = setting(
        None,
        "Everyday",
        "Folder with IDX files (.gz or not), Train-28x28_cntk_text.txt, or CIFAR-10's batches.",
        flags=("--data",),
        type=str,
        metavar="DIR",
        shown_default="data/MNIST if it is there, else drawn glyphs",
    )
    glyphs: int = setting(
        10_000, "Everyday", "Draw so many digits instead of reading data.", minimum=10
    )
    outdir: str = setting(
        "runs",
        "Everyday",
        "Folder in which a numbered run directory is made.",
        metavar="DIR",
    )
    run_dir: str | None = setting(
        None,
        "Everyday",
        "Run directory itself; the same command again resumes it.",
        type=str,
        metavar="DIR",
    )
    resume: str | None = setting(
        None, "Everyday", "Continue this run.", type=str, metavar="RUN"
    )
    transfer: str | None = setting(
        None,
        "Everyday",
        "Start a new run from the networks of this run or checkpoint file.",
        type=str,
        metavar="RUN",
    )
    device: str = setting(
        "auto",
        "Running",
        "auto, cpu, cuda or cuda:N; auto gives each rank of a node a GPU, if there is one.",
        metavar="DEVICE",
    )
    checkpoint_every: int = setting(
        1000,
        "Running",
        "Steps between checkpoints.",
        minimum=1,
        metavar="STEPS",
        shown_default="1000, or the preset's pass",
    )
    grid: str = setting(
        "6x6",
        "Running",
        "Columns x rows of the pictures of samples.",
        metavar="WxH",
        shown_default="6x6, or the preset's",
    )
    log_format: str = setting(
        "plain",
        "Running",
        "Progress lines: ours, or those of CNTK or Paddle.",
        choices=("plain", "cntk", "paddle"),
    )
    quiet: bool = setting(
        False, "Running", "Print errors only; log.txt is written all the same."
    )


def option_names(player: str, name: str) -> tuple[str, str]:
    """Return the parameter names that set `name` of one player: its own, and the shared one."""
    return f"{player.lower()}_{name}", name


def apply_options(config: TrainConfig, given: Mapping[str, Any]) -> TrainConfig:
    """Return `config` with the options given on the command line, by parameter name."""
    own = {f.name: given[f.name] for f in fields(TrainConfig) if f.name in given}
    _check_uses(config, given)
    generator, discriminator = (_apply_to_player(config, given, p) for p in "GD")
    changed = replace(config, **own, G=generator, D=discriminator)
    _check_schedule(changed, given)
    if "kimg" in given:
        images = changed.images_per_step
        changed = replace(
            changed, steps=max(1, -(-int(given["kimg"] * 1000) // images))
        )
    return changed


def _check_schedule(config: TrainConfig, given: Mapping[str, Any]) -> None:
    """Refuse options of the schedule that contradict each other."""
    if config.schedule == "balance" and config.train != "both":
        raise UserError(
            f"Invalid value for '--train': {config.train}, but --schedule balance chooses who is "
            "trained; it needs both.",
            exit_code=2,
        )
    if "kimg" in given and not config.images_per_step:
        raise UserError(
            "Invalid value for '--kimg': --train generator consumes no real images; give --steps.",
            exit_code=2,
        )


def _chosen(config: TrainConfig, given: Mapping[str, Any], player: str) -> str:
    own, shared = option_names(player, "optimizer")
    return given.get(own, given.get(shared, getattr(config, player).optimizer))


def _check_uses(config: TrainConfig, given: Mapping[str, Any]) -> None:
    """Refuse a rate or momentum that none of the optimizers it is meant for would use."""
    for name in RATES:
        for option, players in ((name, "GD"), (f"g_{name}", "G"), (f"d_{name}", "D")):
            kinds = sorted({_chosen(config, given, player) for player in players})
            if option in given and not any(name in OPTIMIZERS[kind] for kind in kinds):
                users = " and ".join(
                    kind for kind in OPTIMIZERS if name in OPTIMIZERS[kind]
                )
                raise UserError(
                    f"Invalid value for '{flag(option)}': {' and '.join(kinds)} has no {name}; "
                    f"it is for {users}.",
                    exit_code=2,
                )


def _apply_to_player(
    config: TrainConfig, given: Mapping[str, Any], player: str
) -> OptimizerConfig:
    before: OptimizerConfig = getattr(config, player)
    kind = _chosen(config, given, player)
    kept = before.settings if kind == before.optimizer else {}
    values = {**OPTIMIZERS[kind], **{k: v for k, v in kept.items() if v is not None}}
    unused = dict.fromkeys(set(RATES) - values.keys())
    plain = {"lr_schedule": before.lr_schedule, "warmup": before.warmup}
    for target in (values, plain):
        for name in target:
            own, shared = option_names(player, name)
            target[name] = given.get(own, given.get(shared, target[name]))
    return OptimizerConfig(optimizer=kind, **values, **plain, **unused)  # type: ignore[arg-type]


def new_config(given: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration of a new run: defaults, then the preset, then the options given."""
    preset = PRESETS[given.get("preset", TrainConfig.preset)]
    length = preset.fast_steps if given.get("fast", True) else preset.full_steps
    with_preset = apply_options(TrainConfig(steps=length), preset.settings)
    return apply_options(with_preset, given)


def run_config(preset: str, given: Mapping[str, Any]) -> RunConfig:
    """Return where and how to run: defaults, then the preset's, then the options given."""
    chosen = {**PRESETS[preset].run_settings, **given}
    return RunConfig(
        **{f.name: chosen[f.name] for f in fields(RunConfig) if f.name in chosen}
    )


def resumed_config(saved: TrainConfig, given: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration of a run that goes on, which only its length may change.

    Raises UserError naming every option that would change anything else.
    """
    if "fast" in given:
        preset = PRESETS[saved.preset]
        length = preset.fast_steps if given["fast"] else preset.full_steps
        given = {"steps": length, **given}
    asked = apply_options(saved, given)
    refused = [
        f"{flag(option)} is {new} now and was {old}"
        for option, old, new in _differences(saved, asked, given)
    ]
    if refused:
        raise UserError(
            f"a resumed run keeps what decides its result, but {', '.join(refused)}; leave the "
            "option out, or start a new run.",
            exit_code=2,
        )
    return asked


def _differences(
    saved: TrainConfig, asked: TrainConfig, given: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    found = []
    before, after = asdict(saved), asdict(asked)
    for name in before:
        if name in ("G", "D"):
            for inner, old in before[name].items():
                own, shared = option_names(name, inner)
                option = own if own in given else shared
                found.append((option, old, after[name][inner]))
        elif name != "steps":
            found.append((name, before[name], after[name]))
    unique = dict.fromkeys(
        item for item in found if item[1] != item[2] and item[0] in given
    )
    return list(unique)


def grid_size(text: str) -> tuple[int, int]:
    """Return the columns and rows of a grid such as 6x6.  Raises ValueError."""
    columns, _, rows = text.lower().partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and int(columns) and int(rows)):
        raise ValueError(f"{text!r} is not like 6x6 (columns x rows).")
    return int(columns), int(rows)


def flag(option: str) -> str:
    """Return a parameter name as the command line spells it."""
    return "--" + option.replace("_", "-")


def config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration that `dataclasses.asdict` turned into `values`."""
    players = {player: OptimizerConfig(**values[player]) for player in ("G", "D")}
    return TrainConfig(**{**values, **players})
