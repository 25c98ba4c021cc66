"""What decides the result of a run, and where and how it runs; each option is written here once."""

from dataclasses import dataclass, field
from typing import Any

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
        0,
        "Everyday",
        "Seed of every random number.",
        minimum=0,
        maximum=2**63 - 1,
        shown_default="0, or the preset's",
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
    batch_norm: str = setting(
        "global",
        "Model",
        "Batch normalisation over the global batch, or local, over the part that a rank has of it; "
        "then the result depends on the number of ranks.",
        choices=("global", "local"),
    )
    batch: int = setting(
        1024,
        "Schedule",
        "Real images in one update, over all ranks; the presets' rates stay as they are.",
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
        shown_default="the dataset's folder in data/; for MNIST else drawn glyphs",
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
    time_limit: str | None = setting(
        None,
        "Running",
        "Stop in time for this, counted from the program's start: minutes, H:MM:SS or D-HH:MM:SS.",
        type=str,
        metavar="TIME",
        shown_default="what is left of the job, where the scheduler says",
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
    evaluate_every: int | None = setting(
        None,
        "Evaluation",
        "Compare samples with the test images every so many steps, and at the end.",
        type=int,
        minimum=1,
        metavar="STEPS",
        shown_default="never",
    )
    samples: int = setting(
        10_000, "Evaluation", "Samples that an evaluation draws.", minimum=6
    )
    classifier: str | None = setting(
        None,
        "Evaluation",
        "Classifier whose features are compared: a file of train-classifier, or mnist.",
        type=str,
        metavar="FILE",
        shown_default="the one of these data: in the run, in the cache, or bundled",
    )
    keep: str | None = setting(
        None,
        "Evaluation",
        "Checkpoints kept: the last three, the best besides, or all.",
        type=str,
        choices=("last", "best", "all"),
        shown_default="last, or best with --evaluate-every",
    )
    stop_on_collapse: bool = setting(
        False,
        "Evaluation",
        "End with exit code 76 when the generator draws always the same, or loses most classes.",
    )
    log_format: str = setting(
        "plain",
        "Running",
        "Progress lines: ours, or those of CNTK or Paddle.",
        choices=("plain", "cntk", "paddle"),
    )
    explain: bool = setting(
        False,
        "Running",
        "Print the shard, sums and times of every rank in each update; for a few steps.",
    )
    tensorboard: bool = setting(
        False, "Running", "Write a copy of figures and samples for TensorBoard, too."
    )
    quiet: bool = setting(
        False, "Running", "Print errors only; log.txt is written all the same."
    )


def grid_size(text: str) -> tuple[int, int]:
    """Return the columns and rows of a grid such as 6x6.  Raises ValueError."""
    columns, _, rows = text.lower().partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and int(columns) and int(rows)):
        raise ValueError(f"{text!r} is not like 6x6 (columns x rows).")
    return int(columns), int(rows)
