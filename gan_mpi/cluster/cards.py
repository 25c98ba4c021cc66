"""The GPUs of a node: what they are and take, and which rank has which."""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gan_mpi.cluster import nvidia
from gan_mpi.cluster.cores import numbers_of
from gan_mpi.errors import UserError
from gan_mpi.mpi.comm import Communicator

PCI = Path("/sys/bus/pci/devices")


@dataclass(frozen=True)
class Card:
    """A GPU.  `near` are the cores of its part of the node, none if that is not known."""

    identity: str  # the same for all ranks that see it
    name: str = ""
    memory: int = 0  # bytes
    link: str = ""
    near: frozenset[int] = frozenset()


def cards() -> list[Card]:
    """Return the GPUs that torch shows this rank, by their numbers.

    Raises UserError if there are some that it cannot use.
    """
    count = torch.cuda.device_count()
    try:
        return [_card(number) for number in range(count)]
    except RuntimeError as error:
        reason = "".join(str(error).splitlines()[:1]).rstrip(".")
        raise UserError(
            f"torch sees {count} GPU(s) and cannot use them: {reason}. Ask the administrator, or "
            "give --device cpu."
        ) from error


def card_of(device: torch.device) -> Card:
    """Return what a device of torch's is."""
    return cards()[device.index]


def _card(number: int) -> Card:
    known = torch.cuda.get_device_properties(number)
    at = PCI / _address(known)
    near = numbers_of(_read(at / "local_cpulist"))
    speed, width = _read(at / "max_link_speed"), _read(at / "max_link_width")  # it may be asleep
    return Card(
        identity=str(getattr(known, "uuid", number)),
        name=known.name,
        memory=known.total_memory,
        link=f"{speed} x{width}" if speed and width else "",
        near=frozenset(near),
    )


def _address(known: object) -> str:
    """Return where a GPU is on PCI, such as 0000:3b:00.0, if torch says it."""
    parts = [getattr(known, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    numbers = [f"{part:x}" for part in parts if isinstance(part, int)]
    if len(numbers) < len(parts):
        return "unknown"
    domain, bus, device = numbers
    return f"{domain:>04}:{bus:>02}:{device:>02}.0"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


class Meter:
    """The energy that this rank's GPU takes from now on, where NVML tells it."""

    def __init__(self, device: torch.device) -> None:
        self.identity = card_of(device).identity if device.type == "cuda" else ""
        self._began = self._read()

    def joules(self) -> float | None:
        """Return what the GPU has taken since, for whatever rank; None if that is not known."""
        now = self._read()
        return None if now is None or self._began is None else now - self._began

    def _read(self) -> float | None:
        return nvidia.joules(self.identity) if self.identity else None


def energy(comm: Communicator, meter: Meter) -> float | None:
    """Return the joules of all GPUs of the ranks, None unless all are known.  Collective."""
    everyone = comm.allgather((platform.node(), meter.identity, meter.joules()))
    by_card = {(host, identity): joules for host, identity, joules in everyone if identity}
    known = [joules for joules in by_card.values() if joules is not None]
    return sum(known) if known and len(known) == len(by_card) else None


def choose(shown: Sequence[Sequence[Card]], masks: Sequence[frozenset[int]], rank: int) -> int:
    """Return which of the GPUs that it is shown a rank of a node takes.

    `shown` are those of each rank of the node, and `masks` the cores that each may run on.  One
    after another takes a GPU that fewest have; of these one near most of its cores, of these the
    first.
    """
    taken: Counter[str] = Counter()
    number = 0
    for mine, mask in zip(shown[: rank + 1], masks[: rank + 1], strict=True):
        number = min(
            range(len(mine)),
            key=lambda n: (taken[mine[n].identity], -len(mine[n].near & mask), n),
            default=0,
        )
        if mine:
            taken[mine[number].identity] += 1
    return number
