"""How the cores of a node are divided among its ranks."""

import os
import re
from collections import Counter
from fractions import Fraction

from gan_mpi.mpi import launcher


def thread_count(masks: list[frozenset[int]], local_rank: int) -> int:
    """Divide each core among the ranks of its node that may run on it; return this rank's share.

    `masks` are the cores that each rank of the node may run on.  OMP_NUM_THREADS wins; of a list,
    which OpenMP has for nested regions, its first number.
    """
    asked = re.fullmatch(r"\s*(\d{1,6})\s*(,.*)?", os.environ.get("OMP_NUM_THREADS", ""))
    if asked:
        return max(1, int(asked[1]))
    ranks_on = Counter(core for mask in masks for core in mask)
    return max(1, int(sum(Fraction(1, ranks_on[core]) for core in masks[local_rank])))


def numbers_of(ranges: str) -> list[int]:
    """Return numbers of a list such as 0-3,8 of the kernel's; of anything else none."""
    if not re.fullmatch(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", ranges):
        return []
    parts = [part.split("-") for part in ranges.split(",")]
    return [n for ends in parts for n in range(int(ends[0]), int(ends[-1]) + 1)]


def launcher_cores() -> int:
    """Return how many cores of this node the program that started this one may use."""
    cores = len(os.sched_getaffinity(os.getppid()))
    allotted = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(cores, int(allotted)) if allotted.isdecimal() else cores


def oversubscribed(masks: list[frozenset[int]], threads: list[int]) -> str:
    """Say that the ranks of a node have more threads than the cores they may run on, else ""."""
    cores = frozenset[int]().union(*masks)
    if sum(threads) <= len(cores):
        return ""
    ranks = f"{len(masks)} rank{'s' * (len(masks) > 1)}"
    ranks += f" with {sum(threads)} threads" if max(threads) > 1 else ""
    has = "have" if len(masks) > 1 else "has"
    return f"{ranks} {has} {len(cores)} core(s) on {launcher.node_name()}"


def idle_cores(masks: list[frozenset[int]], threads: list[int]) -> str:
    """Warn when the launcher's binding leaves more than half of its own cores idle, else ""."""
    if launcher.rank() is None:
        return ""
    cores = launcher_cores()
    used = len(frozenset().union(*masks))
    if 2 * used >= cores:
        return ""
    option = "-bind-to none"
    if launcher.is_open_mpi():
        option = "--bind-to none"
    elif "SLURM_STEP_ID" in os.environ and not launcher.is_hydra():
        option = "--cpu-bind=none"
    return (
        f"the launcher binds the {len(masks)} rank(s) of a node to {used} of its {cores} cores, "
        f"with {sum(threads)} thread(s) in all; {option} would let them use the rest"
    )
