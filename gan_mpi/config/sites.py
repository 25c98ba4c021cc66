"""What the ranks average: gradients, as replicas of one model, or weights, as sites."""

from dataclasses import dataclass

from gan_mpi.config.original import OriginalConfig
from gan_mpi.config.setting import setting

GROUP = "Sites"
EPOCH = "epoch"
RANK = "{rank}"  # in --datadir: the folder of a site


@dataclass(frozen=True)
class SitesConfig(OriginalConfig):
    """Options of training in rounds, each rank by itself; off by default."""

    average: str = setting(
        "gradients",
        GROUP,
        "What ranks average: the gradients of every update, so that their number does not "
        "matter; or, "
        "now and then, the weights of what each trained by itself, on its part of the data or, "
        "with "
        "--datadir 'site-{rank}', on data of its own.",
        choices=("gradients", "weights"),
    )
    every: str = setting(
        "1epoch",
        GROUP,
        "Length of such a round: so many steps, or epochs of a site's own data.",
        metavar="N|Xepoch",
    )
    optimizer_state: str = setting(
        "local",
        GROUP,
        "State of both optimizers after a round: each rank's own, averaged as the weights are, or "
        "begun anew.",
        choices=("local", "average", "reset"),
        shown_default="local, or reset with --block-momentum, or the preset's",
    )
    block_momentum: str = setting(
        "no",
        GROUP,
        "Momentum of the average from round to round, as CNTK's block momentum; alone it means 1 "
        "- 1/N on N ranks. No GAN was seen to bear it (docs/effects.md).",
        metavar="X",
        alone="auto",
    )


def round_length(text: str) -> tuple[float, bool]:
    """Return a number, and whether it is of epochs and not of steps.  Raises ValueError."""
    number = text.removesuffix(EPOCH)
    in_epochs = number != text
    try:
        length = float(number) if in_epochs else int(number)
    except ValueError:
        length = 0
    if not 0 < length < 1e9:
        raise ValueError(f"{text!r} is neither a number of steps nor like 1epoch.")
    return length, in_epochs


def block_momentum(text: str, world_size: int) -> float:
    """Return the block momentum, 0 <= x < 1, on so many ranks.  Raises ValueError."""
    if text in ("no", "auto"):
        return 1.0 - 1.0 / world_size if text == "auto" else 0.0
    try:
        momentum = float(text)
    except ValueError:
        momentum = -1.0
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"{text!r} is not in the range 0<=x<1.")
    return momentum
