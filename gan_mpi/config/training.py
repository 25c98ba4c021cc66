"""What decides the result of a run: what the originals differ in, and what none of them had."""

from dataclasses import dataclass

from gan_mpi.config.setting import setting
from gan_mpi.config.sites import SitesConfig

GROUP = "Beyond the originals"


@dataclass(frozen=True)
class TrainConfig(SitesConfig):
    """What decides the result.  A resume may change the number of steps, and nothing else.

    The options added here are off by default.  (n): a number in the list of
    github.com/soumith/ganhacks.
    """

    ema: float = setting(
        0.0,
        GROUP,
        "Keep an average of G's weights with this half-life, in thousands of images that G was "
        "trained with, at most a twentieth of all so far; samples are drawn from it.  0: none.",
        minimum=0,
        metavar="KIMG",
    )
    conditional: str = setting(
        "no",
        GROUP,
        "Give the labels to both players, to D by projection or through an auxiliary classifier "
        "(12, 16). Alone it means projection.",
        choices=("no", "projection", "auxiliary"),
        alone="projection",
    )
    gradient_penalty: float = setting(
        0.0,
        GROUP,
        "Weight of (|gradient of D| - 1)^2 between reals and fakes; WGAN-GP has 10.",
        minimum=0,
    )
    r1: float = setting(
        0.0,
        GROUP,
        "Weight of half the squared gradient of D at reals, the penalty R1.",
        minimum=0,
    )
    clip: float = setting(
        0.0,
        GROUP,
        "Clip the weights of D to this size after each update, for --loss wasserstein; WGAN has "
        "0.01.",
        minimum=0,
    )
    real_targets: str = setting(
        "1",
        GROUP,
        "What D should say of a real: a number, or a range to draw from for each, such as "
        "0.7-1.2 (6).",
        metavar="X[-Y]",
    )
    fake_targets: str = setting(
        "0",
        GROUP,
        "What D should say of a fake: a number, or a range such as 0-0.3 (6).",
        metavar="X[-Y]",
    )
    flip: float = setting(
        0.0,
        GROUP,
        "Share of reals and fakes whose target is one minus what it should be (6).",
        minimum=0,
        below=0.5,
    )
    instance_noise: float = setting(
        0.0,
        GROUP,
        "Deviation of normal noise on all that D sees, falling to 0 at the end of the run (13).",
        minimum=0,
    )
    replay: int = setting(
        0,
        GROUP,
        "Keep so many fakes for every place in the batch, and show D an old one half of the time "
        "(8).",
        minimum=0,
        maximum=10_000,
    )
    g_dropout: float = setting(
        0.0,
        GROUP,
        "Share of the units, or maps, that is dropped after each hidden layer of G, in training "
        "and when sampling (17).",
        minimum=0,
        below=1,
    )
    g_activation: str = setting(
        "own",
        GROUP,
        "Activation of G's hidden layers: its own, relu, or leaky with slope 0.2 (5).",
        choices=("own", "relu", "leaky"),
    )
    d_activation: str = setting(
        "own",
        GROUP,
        "Activation of D's hidden layers.",
        choices=("own", "relu", "leaky"),
    )
    g_norm: str = setting(
        "own",
        GROUP,
        "Normalisation in G: its own; instance, of each image by itself, in the place of batch "
        "norm (4); or none.",
        choices=("own", "instance", "none"),
    )
    d_norm: str = setting(
        "own",
        GROUP,
        "Normalisation in D: its own, instance, none, or spectral, of the weights.",
        choices=("own", "instance", "none", "spectral"),
    )

    @property
    def told(self) -> list[str]:
        """The options by which D is told anything but 1 for every real and 0 for every fake."""
        names = ("real_targets", "fake_targets", "flip")
        return [n for n in names if getattr(self, n) != getattr(TrainConfig, n)]


def interval(text: str) -> tuple[float, float]:
    """Return the ends of a range such as 0.7-1.2, or of one number.  Raises ValueError."""
    low, dash, high = text.partition("-")
    try:
        ends = float(low), float(high if dash else low)
    except ValueError:
        ends = (1.0, 0.0)
    if not 0.0 <= ends[0] <= ends[1] <= 2.0:
        raise ValueError(f"{text!r} is neither a number in 0..2 nor a range like 0.7-1.2.")
    return ends
