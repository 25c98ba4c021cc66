"""The systems that can be trained by name: lengths, and what differs from the defaults."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One system: a sentence, its two lengths in steps, and option values by option name."""

    summary: str
    fast_steps: int
    full_steps: int
    settings: dict[str, Any] = field(default_factory=dict)


PRESETS = {
    "basic": Preset(
        summary="CNTK's Basic_GAN_Distributed.py: dense networks, FSAdaGrad, two D updates a step",
        fast_steps=300,
        full_steps=40_000,
    )
}
