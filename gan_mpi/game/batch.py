"""What the networks are given: a rank's share of a global batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from gan_mpi.arrays import Array


class Draw(Protocol):
    """What an extra wants of random numbers, keyed by the samples that they are for."""

    def __call__(self, kind: str, first: int, last: int) -> dict[str, Array]:
        """Return arrays (last - first, ...) by name, for samples first..last of a stream.

        `kind` is real or fake.
        """


@dataclass(frozen=True)
class Batch:
    """This rank's share, or a part of it, of a batch of reals or of fakes, or of their latents.

    `values` are images (n, *shape) or latents (n, d), n may be 0; they are numbers `first`,
    `first` + 1 ... of the run's stream of reals, or of latents, and `place`, `place` + 1 ... of the
    share, which has `share` of them (None: it is whole).  `labels`, int64 (n,), are there if the
    networks want them; `drawn` (n, ...) is what extras want, by name.
    """

    kind: str  # real or fake
    values: Tensor
    first: int
    labels: Tensor | None = None
    place: int = 0
    share: int | None = None
    drawn: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a network is called with."""
        return (self.values,) if self.labels is None else (self.values, self.labels)
