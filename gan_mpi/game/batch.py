"""What the networks are given: a rank's share of a global batch."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """This rank's share, or a part of it, of a batch of reals or of fakes, or of their latents.

    `values` are images (n, *shape) or latents (n, d), n may be 0; they are numbers `first`,
    `first` + 1 ... of the run's stream of reals, or of latents, and `place`, `place` + 1 ... of the
    share, which has `share` of them (None: it is whole).  `labels`, int64 (n,), are there if the
    networks want them.
    """

    kind: str  # real or fake
    values: Tensor
    first: int
    labels: Tensor | None = None
    place: int = 0
    share: int | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a network is called with."""
        return (self.values,) if self.labels is None else (self.values, self.labels)
