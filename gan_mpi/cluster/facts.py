"""What each rank is: where it runs, on which cores, with which code and which options."""

import hashlib
import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from gan_mpi import __version__
from gan_mpi.cluster.cores import idle_cores, launcher_cores, thread_count
from gan_mpi.cluster.nvidia import has_driver
from gan_mpi.errors import UserError
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import library_name, network_name

if TYPE_CHECKING:
    from gan_mpi.cluster.cards import Card

PACKAGE = Path(__file__).parents[1]
LIBRARIES = ("torch", "numpy", "mpi4py")


@dataclass(frozen=True)
class Facts:
    """One rank.  `cores` are the numbers of the cores that it may run on."""

    rank: int
    host: str
    cores: tuple[int, ...]
    threads: int
    idle: str  # what the launcher's binding leaves unused, if much
    cards: "tuple[Card, ...]"  # that it is shown
    versions: dict[str, str]
    code: str
    package: str
    options: tuple[str, ...]
    available: int = 0  # cores of the node that the launcher may use
    wrong: str = ""  # with the GPUs

    @property
    def name(self) -> str:
        return f"rank {self.rank} on {self.host}"


def collect_facts(comm: Communicator, with_cards: bool = False) -> list[Facts]:
    """Return what every rank says of itself, on every rank.  Collective.

    To be asked for their names GPUs have to be begun with, which takes memory of each.
    """
    shown, wrong = _cards() if with_cards else ((), "")
    masks = comm.node_allgather(frozenset(os.sched_getaffinity(0)))
    threads = thread_count(masks, comm.local_rank)
    mine = Facts(
        rank=comm.rank,
        host=platform.node(),
        cores=tuple(sorted(masks[comm.local_rank])),
        threads=threads,
        idle=idle_cores(masks, comm.node_allgather(threads)),
        cards=shown,
        versions={
            "gan-mpi": __version__,
            "python": platform.python_version(),
            "MPI": " over ".join(filter(None, (library_name(), network_name()))),
            **{name: _version(name) for name in LIBRARIES},
        },
        code=_digest(),
        package=str(PACKAGE),
        options=tuple(sys.argv[1:]),
        available=launcher_cores(),
        wrong=wrong,
    )
    return comm.allgather(mine)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def _digest() -> str:
    """Return a hash of the package's Python files, names and contents."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _cards() -> "tuple[tuple[Card, ...], str]":
    """Return the GPUs that torch sees, and what is wrong with them.

    Without a driver, torch need not be imported.
    """
    if not (has_driver() or Path("/dev/kfd").exists()):
        return (), ""
    from gan_mpi.cluster.cards import cards

    try:
        return tuple(cards()), ""
    except UserError as error:
        return (), str(error)


def disagreements(facts: list[Facts]) -> list[str]:
    """Name the ranks whose versions, code or options are not rank 0's, with what would do."""
    sentences = []
    for name in facts[0].versions:
        said = [f"{name} {fact.versions[name]}" for fact in facts]
        sentences += _odd_one(facts, said, said, "install the same on all nodes")
    if not sentences:
        said = [f"the code in {fact.package}" for fact in facts]
        codes = [fact.code for fact in facts]
        sentences += _odd_one(facts, codes, said, "make it the same on all nodes")
    options = [f"the options '{' '.join(fact.options)}'" for fact in facts]
    return sentences + _odd_one(facts, options, options, "give all ranks the same")


def require_agreement(comm: Communicator) -> None:
    """Raise UserError unless all ranks have the same versions, code and options.  Collective."""
    for sentence in disagreements(collect_facts(comm)):
        comm.raise_alike(UserError(f"{sentence}."))


def _odd_one(facts: list[Facts], values: list[str], said: list[str], advice: str) -> list[str]:
    odd = [rank for rank, value in enumerate(values) if value != values[0]]
    if not odd:
        return []
    more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
    return [f"{facts[odd[0]].name}{more} has {said[odd[0]]}, and rank 0 {said[0]}; {advice}"]
