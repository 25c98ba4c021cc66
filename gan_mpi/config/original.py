"""What decides the result, and what the originals differ in."""

from dataclasses import dataclass

from gan_mpi.config.optimizer import DEFAULT, OptimizerConfig
from gan_mpi.config.presets import PRESETS
from gan_mpi.config.setting import setting

NETWORKS = ("dense", "dcgan", "dcgan-206b", "paddle", "paddle-points", "lightning")
LOSSES = (
    "sum",
    "mean",
    "nonsaturating",
    "minimax",
    "least-squares",
    "hinge",
    "wasserstein",
)
WITHOUT_TARGETS = ("hinge", "wasserstein")
DATASETS = ("mnist", "fashion-mnist", "cifar10", "uniform")


@dataclass(frozen=True)
class OriginalConfig:
    """Options that make one or another of the originals."""

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
        "Latents: uniform in -1..1, normal, or normal and scaled to one length, on a sphere.",
        choices=("uniform", "normal", "sphere"),
    )
    latent_dim: int = setting(100, "Model", "Numbers in one latent.", minimum=1)
    loss: str = setting(
        "sum",
        "Model",
        "sum and mean: cross-entropy, D's terms on reals and fakes added or averaged, G's -log "
        "D(G(z)), with sum and 1 more, as CNTK has it; nonsaturating is sum without the 1; "
        "minimax has log(1 - D(G(z))) for G; or least-squares, hinge, wasserstein.",
        choices=LOSSES,
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
    d_steps: int = setting(2, "Schedule", "Discriminator updates in one step.", minimum=1)
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
    G: OptimizerConfig = DEFAULT
    D: OptimizerConfig = DEFAULT

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

    @property
    def latents_per_step(self) -> int:
        """Latents that a step draws, over all ranks."""
        turn = self.turn if self.schedule == "steps" else ("D",)
        of_G = min(turn.count("G"), 1) if self.g_latents == "repeated" else turn.count("G")
        return (turn.count("D") + of_G) * self.batch
