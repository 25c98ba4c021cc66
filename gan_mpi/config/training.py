"""What decides the result of a run: what the originals differ in, and what none of them had."""

from dataclasses import dataclass

from gan_mpi.config.optimizer import DEFAULT, OptimizerConfig
from gan_mpi.config.presets import PRESETS
from gan_mpi.config.setting import setting
from gan_mpi.config.values import is_ramp

NETWORKS = (
    *("dense", "dcgan", "dcgan-206b", "paddle", "paddle-points", "lightning"),
    *("small", "modern"),
)
LOSSES = (
    *("sum", "mean", "nonsaturating", "minimax"),
    *("least-squares", "hinge", "wasserstein", "relativistic"),
)
WITHOUT_TARGETS = ("hinge", "wasserstein", "relativistic")
DATASETS = ("mnist", "fashion-mnist", "cifar10", "uniform")
SITES, BEYOND = "Sites", "Beyond the originals"  # groups of options


@dataclass(frozen=True)
class TrainConfig:
    """What decides the result.  A resume may change the number of steps, and nothing else.

    First comes what makes one or another of the originals; then rounds of sites, and what no
    original had, both off by default.
    """

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
        maximum=2**53,
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
    width: int = setting(
        64,
        "Model",
        "Channels of --network modern, fewer where maps have sides of more than 16 pixels.",
        minimum=16,
        maximum=4096,
    )
    blocks: int = setting(
        1,
        "Model",
        "Residual blocks of --network modern at each size of its maps.",
        minimum=1,
        maximum=100,
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
    latent_dim: int = setting(100, "Model", "Numbers in one latent.", minimum=1, maximum=2**20)
    loss: str = setting(
        "sum",
        "Model",
        "sum and mean: cross-entropy, D's terms on reals and fakes added or averaged, G's -log "
        "D(G(z)), with sum and 1 more, as CNTK has it; nonsaturating is sum without the 1; "
        "minimax has log(1 - D(G(z))) for G; or least-squares, hinge, wasserstein; relativistic "
        "asks which of a real and a fake is the real one.",
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
    d_steps: int = setting(
        2, "Schedule", "Discriminator updates in one step.", minimum=1, maximum=1000
    )
    g_steps: int = setting(1, "Schedule", "Generator updates in one step.", minimum=1, maximum=1000)
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
        "Arithmetic of the networks and of the sums over ranks; in bf16 the matrix products and "
        "convolutions of training are in bfloat16, in tf32 a GPU rounds their factors to TF32, and "
        "all else is in fp32.",
        choices=("fp32", "tf32", "fp64", "bf16"),
    )
    G: OptimizerConfig = DEFAULT
    D: OptimizerConfig = DEFAULT

    average: str = setting(
        "gradients",
        SITES,
        "What ranks average: the gradients of every update, so that their number does not "
        "matter; or, "
        "now and then, the weights of what each trained by itself, on its part of the data or, "
        "with "
        "--datadir 'site-{rank}', on data of its own.",
        choices=("gradients", "weights"),
    )
    every: str = setting(
        "1epoch",
        SITES,
        "Length of such a round: so many steps, or epochs of a site's own data.",
        metavar="N|Xepoch",
    )
    optimizer_state: str = setting(
        "local",
        SITES,
        "State of both optimizers after a round: each rank's own, averaged as the weights are, or "
        "begun anew.",
        choices=("local", "average", "reset"),
        shown_default="local, or reset with --block-momentum, or the preset's",
    )
    block_momentum: str = setting(
        "no",
        SITES,
        "Momentum of the average from round to round, as CNTK's block momentum; alone it means 1 "
        "- 1/N on N ranks. No GAN was seen to bear it (docs/effects.md).",
        metavar="X",
        alone="auto",
    )

    ema: float | str = setting(
        0.0,
        BEYOND,
        "Keep an average of G's weights with this half-life, in thousands of images that G was "
        "trained with; samples are drawn from it.  0: none.  One number is at most a twentieth of "
        "all images so far.",
        minimum=0,
        ramps=True,
        metavar="KIMG[:KIMG]",
    )
    conditional: str = setting(
        "no",
        BEYOND,
        "Give the labels to both players, to D by projection or through an auxiliary classifier. "
        "Alone it means projection.",
        choices=("no", "projection", "auxiliary"),
        alone="projection",
    )
    gradient_penalty: float = setting(
        0.0,
        BEYOND,
        "Weight of (|gradient of D| - 1)^2 between reals and fakes; WGAN-GP has 10.",
        minimum=0,
    )
    r1: float | str = setting(
        0.0,
        BEYOND,
        "Weight of half the squared gradient of D at reals, the penalty R1.",
        minimum=0,
        ramps=True,
    )
    r2: float | str = setting(
        0.0,
        BEYOND,
        "Weight of half the squared gradient of D at fakes, the penalty R2.",
        minimum=0,
        ramps=True,
    )
    penalty_every: int = setting(
        1,
        BEYOND,
        "Take the penalties in every so many updates of D, and count them so many times there; "
        "they cost more than the rest of an update.",
        minimum=1,
        maximum=10_000,
    )
    ramp_steps: int = setting(
        0,
        BEYOND,
        "Steps in which settings given as FROM:TO go from one to the other, by a cosine.",
        minimum=1,
        maximum=2**53,
        shown_default="the length that the run is begun with",
    )
    clip: float = setting(
        0.0,
        BEYOND,
        "Clip the weights of D to this size after each update, for --loss wasserstein; WGAN has "
        "0.01.",
        minimum=0,
    )
    real_targets: str = setting(
        "1",
        BEYOND,
        "What D should say of a real: a number, or a range to draw from for each, such as 0.7-1.2.",
        metavar="X[-Y]",
    )
    fake_targets: str = setting(
        "0",
        BEYOND,
        "What D should say of a fake: a number, or a range such as 0-0.3.",
        metavar="X[-Y]",
    )
    flip: float = setting(
        0.0,
        BEYOND,
        "Share of reals and fakes whose target is one minus what it should be.",
        minimum=0,
        below=0.5,
    )
    instance_noise: float = setting(
        0.0,
        BEYOND,
        "Deviation of normal noise on all that D sees, falling to 0 at the end of the run.",
        minimum=0,
    )
    augment: str = setting(
        "no",
        BEYOND,
        "Change all images that D sees, for few data: translation, cutout, color, or some of them "
        "with commas; with adaptive as often as keeps D from knowing the data by heart. Alone it "
        "means all three, always.",
        metavar="KINDS",
        alone="color,translation,cutout",
    )
    augment_probability: float | str = setting(
        1.0,
        BEYOND,
        "How often each kind of --augment changes an image.",
        minimum=0,
        maximum=1,
        ramps=True,
    )
    replay: int = setting(
        0,
        BEYOND,
        "Keep so many fakes for every place in the batch, and show D an old one half of the time.",
        minimum=0,
        maximum=10_000,
    )
    g_dropout: float = setting(
        0.0,
        BEYOND,
        "Share of the units, or maps, that is dropped after each hidden layer of G, in training "
        "and when sampling.",
        minimum=0,
        below=1,
    )
    g_activation: str = setting(
        "own",
        BEYOND,
        "Activation of G's hidden layers: its own, relu, or leaky with slope 0.2.",
        choices=("own", "relu", "leaky"),
    )
    d_activation: str = setting(
        "own", BEYOND, "Activation of D's hidden layers.", choices=("own", "relu", "leaky")
    )
    g_norm: str = setting(
        "own",
        BEYOND,
        "Normalisation in G: its own; instance, of each image by itself, in the place of batch "
        "norm; or none.",
        choices=("own", "instance", "none"),
    )
    d_norm: str = setting(
        "own",
        BEYOND,
        "Normalisation in D: its own, instance, none, or spectral, of the weights.",
        choices=("own", "instance", "none", "spectral"),
    )

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
        if self.schedule == "balance":
            return self.batch
        by_D, by_G = self.turn.count("D"), self.turn.count("G")
        alone = not by_D and self.loss == "relativistic"  # then G is shown reals of its own
        return self.batch * (by_G if alone else by_D)

    @property
    def images_counted(self) -> int:
        """What a step is measured by: real images, or fakes where only G is trained."""
        return self.images_per_step or self.g_steps * self.batch

    def samples_per_step(self, kind: str) -> int:
        """Samples of a kind, real or fake, that a step takes from their stream, over all ranks."""
        return self.images_counted if kind == "real" else self.latents_per_step

    @property
    def latents_per_step(self) -> int:
        """Latents that a step draws, over all ranks."""
        turn = self.turn if self.schedule == "steps" else ("D",)
        of_G = min(turn.count("G"), 1) if self.g_latents == "repeated" else turn.count("G")
        return (turn.count("D") + of_G) * self.batch

    @property
    def ramps(self) -> list[str]:
        """The options that go from one number to another during the run."""
        of_players = [
            f"{player.lower()}_{name}"
            for player in ("G", "D")
            for name, value in getattr(self, player).settings.items()
            if is_ramp(value)
        ]
        names = ("ema", "r1", "r2", "augment_probability")
        return of_players + [name for name in names if is_ramp(getattr(self, name))]

    def share_of_ramp(self, steps: float) -> float:
        """Return which part of a way FROM:TO is behind after so many steps, 0 and more."""
        return steps / self.ramp_steps if self.ramp_steps else 0.0

    @property
    def told(self) -> list[str]:
        """The options by which D is told anything but 1 for every real and 0 for every fake."""
        names = ("real_targets", "fake_targets", "flip")
        return [n for n in names if getattr(self, n) != getattr(TrainConfig, n)]
