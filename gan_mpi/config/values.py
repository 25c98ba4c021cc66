"""Values that are written in a way of their own, such as 0.7-1.2, 6x6 or 1epoch."""

import math
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

EPOCH = "epoch"
MOST_TILES = 65_536  # images in a picture
FAULTS = ("raise", "exit", "kill", "stop", "loop", "nan", "enospc", "delay")
ADAPTIVE = "adaptive"
AUGMENTATIONS = ("color", "translation", "cutout")  # in the order in which they are applied
RANK = "{rank}"  # in --datadir: the folder of a site
Ramp = float | str  # a number, or what it is at first and at last, such as 0.05:0.005


def composed(name: str) -> str:
    """Return a name as Unicode's NFC is, since macOS takes names apart that others keep whole."""
    return unicodedata.normalize("NFC", name)


def interval(text: str) -> tuple[float, float]:
    """Return the ends of a range such as 0.7-1.2, or of one number.  Raises ValueError."""
    low, _, high = text.partition("-")
    try:
        ends = (float(text),) * 2 if _is_number(text) else (float(low), float(high))
    except ValueError:
        ends = (1.0, 0.0)
    if not 0.0 <= ends[0] <= ends[1] <= 2.0:
        raise ValueError(f"{text!r} is neither a number in 0..2 nor a range like 0.7-1.2.")
    return ends


def _is_number(text: str) -> bool:
    """Return whether a text is one number, such as 1e-3, which holds a dash of its own."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def ramp(value: Ramp) -> tuple[float, float]:
    """Return what a setting is at first and at last.  Raises ValueError."""
    first, colon, last = str(value).partition(":")
    try:
        return float(first), float(last if colon else first)
    except ValueError:
        raise ValueError(f"{value!r} is neither a number nor two like 0.05:0.005.") from None


def along(value: Ramp, share: float) -> float:
    """Return what a setting is once a share, 0..1 and more, of its way is behind it.

    It goes along half a cosine, as all of R3GAN's do, arXiv 2501.05441, and then stays.
    """
    first, last = ramp(value)
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


def is_ramp(value: object) -> bool:
    """Return whether a setting is another at last than at first."""
    return isinstance(value, str) and ":" in value


def augmentations(text: str) -> list[str]:
    """Return the kinds of augmentation in a text such as color,cutout, in their order.

    All of them if it is adaptive alone.  Raises ValueError.
    """
    asked = [] if text == "no" else _words(text)
    if unknown := [name for name in asked if name not in (*AUGMENTATIONS, ADAPTIVE)]:
        raise ValueError(f"{unknown[0]!r} is not {', '.join(AUGMENTATIONS)} or {ADAPTIVE}.")
    return [name for name in AUGMENTATIONS if name in asked or {*asked} == {ADAPTIVE}]


def is_adaptive(text: str) -> bool:
    """Return whether a text such as color,adaptive lets an augmentation find its probability."""
    return ADAPTIVE in _words(text)


def _words(text: str) -> list[str]:
    """Return the words of a list with commas, or with + where commas mean something else."""
    return [word.strip() for word in text.replace("+", ",").split(",")]


def grid_size(text: str) -> tuple[int, int]:
    """Return the columns and rows of a grid such as 6x6.  Raises ValueError."""
    columns, _, rows = text.lower().partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and int(columns) and int(rows)):
        raise ValueError(f"{text!r} is not like 6x6 (columns x rows).")
    if int(columns) * int(rows) > MOST_TILES:
        raise ValueError(f"{text!r} is more than {MOST_TILES} images.")
    return int(columns), int(rows)


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


@dataclass(frozen=True)
class Fault:
    """What is to go wrong on a rank at the beginning of a step, and for how many seconds."""

    rank: int
    step: int
    kind: str  # one of FAULTS
    seconds: float = 0.0  # of a delay


def fault(text: str) -> Fault:
    """Return the fault in a text such as rank=1,step=50,kind=kill.  Raises ValueError."""
    try:
        given = dict(part.split("=", 1) for part in text.split(","))
        kind, _, seconds = given.pop("kind").partition("=")
        wait = float(seconds.removesuffix("s")) if kind == "delay" else 0.0
        found = Fault(int(given.pop("rank")), int(given.pop("step")), kind, wait)
        if given or kind not in FAULTS or (seconds and kind != "delay") or not 0 <= wait < 1e6:
            raise ValueError
        if found.rank < 0 or found.step < 1:
            raise ValueError
    except (ValueError, KeyError):
        kinds = "|".join(FAULTS).replace("delay", "delay=2s")
        raise ValueError(f"{text!r} is not like rank=1,step=50,kind={kinds}.") from None
    return found


# Settings that are such texts, and what understands them.
WRITTEN: dict[str, Callable[[str], object]] = {
    "real_targets": interval,
    "fake_targets": interval,
    "augment": augmentations,
    "every": round_length,
    "block_momentum": lambda text: block_momentum(text, 1),
}
