"""Augmentation of what D sees, alike for reals and fakes: so that few images are many.

Zhao et al., arXiv 2006.10738 (DiffAugment): color is brightness, saturation and contrast,
translation up to an eighth of the sides, and cutout of a half of them, each filled with zeros.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from gan_mpi.arrays import Array
from gan_mpi.config.training import TrainConfig
from gan_mpi.config.values import along, augmentations, is_adaptive, is_ramp
from gan_mpi.extras.ramps import along_stream
from gan_mpi.game.batch import Batch
from gan_mpi.runs.checkpoint import SavedAdaptation
from gan_mpi.streams import Purpose, uniforms

PURPOSES = {"real": Purpose.AUGMENT_REAL, "fake": Purpose.AUGMENT_FAKE}
BRIGHTNESS = 0.5  # is added, at most
SATURATION = 2.0  # times that of the image, at most
CONTRAST = 0.5, 1.5  # times that of the image
TRANSLATION = 1 / 8  # of a side, at most
CUTOUT = 1 / 2  # of a side


class Adaptation:
    """How often images are augmented: more often while D is too sure of reals.

    Of INTERVAL updates of D the mean sign of its logits of reals, 1 where it takes all for real, is
    compared with TARGET, and the probability moves by a step towards less or more.  Karras et al.,
    arXiv 2006.06676, 3.1.  The means are those of all ranks, and so the probability is.
    """

    INTERVAL = 4  # updates of D
    TARGET = 0.6
    SPEED = 500_000  # images in which the probability goes from 0 to 1

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.probability, self.updates = 0.0, 0  # of D, when it last changed
        self.total, self.count = 0.0, 0  # of what D has said since
        self.level: Tensor | None = None  # the probability where images are, 0-d

    def note(self, error_real: float) -> None:
        """Count an update of D, which took this share of all reals for fakes."""
        self.total += 1.0 - 2.0 * error_real
        self.count += 1

    def is_due(self, updates: int) -> bool:
        """Return whether the probability is to change after so many updates of D."""
        return updates // self.INTERVAL > self.updates // self.INTERVAL

    def adapt(self, updates: int) -> None:
        """Change the probability after so many updates of D, all of which are noted."""
        step = self.count * self.batch / self.SPEED
        is_too_sure = self.total > self.TARGET * self.count
        moved = self.probability + (step if is_too_sure else -step)
        self.probability, self.updates = min(1.0, max(0.0, moved)), updates
        self.total, self.count = 0.0, 0

    def show(self) -> None:
        """Let images be augmented so often from now on."""
        if self.level is not None:
            self.level.fill_(self.probability)

    def level_beside(self, images: Tensor) -> Tensor:
        """Return the probability on the device of images, whose memory stays the same."""
        if self.level is None:
            self.level = images.new_full((), self.probability)
        return self.level

    def to_dict(self) -> SavedAdaptation:
        """Return what a checkpoint holds of it."""
        return {
            "probability": self.probability,
            "updates": self.updates,
            "total": self.total,
            "count": self.count,
        }

    def load(self, saved: SavedAdaptation) -> None:
        """Continue from what `to_dict` returned."""
        self.probability, self.updates = saved["probability"], saved["updates"]
        self.total, self.count = saved["total"], saved["count"]
        self.show()


class Augmentation:
    """Changes each sample by numbers of its own, as often as a probability says.

    Each of its kinds is applied or not by itself, as in Karras et al., arXiv 2006.06676, 2.2.  What
    is done can be differentiated, twice too.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.seed = config, config.seed
        self.kinds = [(name, *KINDS[name]) for name in augmentations(config.augment)]
        self.width = sum(1 + count for _, count, _ in self.kinds)
        self.probability = config.augment_probability
        self.adaptation = Adaptation(config.batch) if is_adaptive(config.augment) else None

    def at(self, share: float) -> "Augmentation":
        """Return what changes images as this does once a share of the run's ramps is behind it."""
        now = copy.copy(self)
        adaptation, now.adaptation = self.adaptation, None
        now.probability = along(self.probability, share)
        if adaptation is not None:
            now.probability = adaptation.probability
        return now

    def draw(self, kind: str, first: int, last: int) -> dict[str, Array]:
        """Return the numbers of samples first..last, and their probability if it changes."""
        drawn = {"augment": uniforms(self.seed, PURPOSES[kind], first, last, self.width)}
        if is_ramp(self.probability):
            probability = along_stream(self.config, self.probability, kind, first, last)
            drawn["augment_probability"] = probability
        return drawn

    def __call__(self, batch: Batch) -> Tensor:
        """Return the values (n, C, H, W) of a batch as D sees them."""
        values, drawn = batch.values, batch.drawn["augment"]
        probability = batch.drawn.get("augment_probability", self.probability)
        if self.adaptation is not None:
            probability = self.adaptation.level_beside(values)
        for _, count, apply in self.kinds:
            mine, drawn = drawn.split([1 + count, drawn.shape[1] - 1 - count], dim=1)
            values = apply(values, mine[:, 0] < probability, mine[:, 1:])
        return values


def _color(images: Tensor, applied: Tensor, drawn: Tensor) -> Tensor:
    """Change brightness, saturation and contrast by three numbers (n, 3) in 0..1."""
    low, high = CONTRAST
    brightness = 2 * BRIGHTNESS * (drawn[:, 0] - 0.5)
    saturation, contrast = SATURATION * drawn[:, 1], low + (high - low) * drawn[:, 2]
    brightness, saturation, contrast = (
        torch.where(applied, each, other)[:, None, None, None]
        for each, other in ((brightness, 0.0), (saturation, 1.0), (contrast, 1.0))
    )
    images = images + brightness
    if images.shape[1] > 1:
        grey = images.mean(1, keepdim=True)
        images = (images - grey) * saturation + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * contrast + mean


def _translation(images: Tensor, applied: Tensor, drawn: Tensor) -> Tensor:
    """Move images by whole pixels, by two numbers (n, 2) in 0..1.

    No pixel is taken twice but for the zeros, so that gradients are the same on every device.
    """
    for axis, side in enumerate(images.shape[2:]):
        most = int(side * TRANSLATION + 0.5)
        shift = (drawn[:, axis] * (2 * most + 1)).floor().long() - most
        places = torch.arange(side, device=images.device) - (shift * applied)[:, None]
        places = torch.where((places < 0) | (places >= side), side, places)  # of a zero
        if axis == 0:
            rows = places[:, None, :, None].expand_as(images)
            images = pad(images, (0, 0, 0, 1)).gather(2, rows)
        else:
            columns = places[:, None, None].expand_as(images)
            images = pad(images, (0, 1)).gather(3, columns)
    return images


def _cutout(images: Tensor, applied: Tensor, drawn: Tensor) -> Tensor:
    """Cut a square, which may reach beyond the image, by two numbers (n, 2) in 0..1."""
    inside = applied[:, None, None]
    for axis, side in enumerate(images.shape[2:]):
        width = int(side * CUTOUT + 0.5)
        places = side + 1 - width % 2  # of the square's middle
        first = (drawn[:, axis] * places).floor()[:, None] - width // 2
        at = torch.arange(side, device=images.device)
        within = (at >= first) & (at < first + width)
        inside = inside & (within[:, :, None] if axis == 0 else within[:, None])
    return images * (~inside)[:, None].to(images)


# By name, how many numbers a sample needs, and what changes it by them.
KINDS: dict[str, tuple[int, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "color": (3, _color),
    "translation": (2, _translation),
    "cutout": (2, _cutout),
}
