"""Measures what safety costs a run: mpiexec ... python benchmarks/safety.py OPTIONS.

It is `gan-mpi train` with these options, of which rank 0 says at the end how long training stood
still for checkpoints, and what the calls took by which others learn where a rank is, whether to
stop, and from what a step could be done again; less what a call of nothing takes in their place.
"""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable

from gan_mpi.clock import Whereabouts
from gan_mpi.lifecycle.injection import Injection
from gan_mpi.lifecycle.stopping import Lookout
from gan_mpi.mpi import launcher

FIRST = 5  # steps that do not count
SAVES = "Journal.save"

spent: dict[str, list[float]] = defaultdict(list)  # seconds of calls, by what they are
ends: list[float] = []  # of steps


def nothing(*arguments: object, **named: object) -> None:
    """Do nothing."""


def timed(kind: str, owner: type, name: str) -> None:
    """Count the seconds of a method as `kind`."""
    known: Callable[..., object] = getattr(owner, name)

    def call(*arguments: object, **named: object) -> object:
        before = time.perf_counter()
        nothing(*arguments, **named)
        began = time.perf_counter()
        result = known(*arguments, **named)
        if len(ends) >= FIRST:
            spent[kind].append(time.perf_counter() - began - (began - before))
        return result

    setattr(owner, name, call)


def watch() -> None:
    """Let the methods that matter be timed."""
    from gan_mpi.recording.journal import Journal
    from gan_mpi.recording.saving import Saver
    from gan_mpi.training.state import RunState

    for owner, names in (
        (Whereabouts, ("_show", "move")),
        (Injection, ("strike",)),
        (Lookout, ("look",)),
        (RunState, ("mark",)),
        (Saver, ("look",)),
    ):
        for name in names:
            timed(f"{owner.__name__}.{name}", owner, name)
    timed(SAVES, Journal, "save")
    known = Journal.record_step

    def record_step(journal: Journal, before: int, stopping: bool) -> None:
        known(journal, before, stopping)
        ends.append(time.perf_counter())

    Journal.record_step = record_step  # type: ignore[method-assign]


def say() -> None:
    """Print what was found."""
    steps = len(ends) - FIRST
    total = ends[-1] - ends[FIRST - 1]
    step = statistics.median(b - a for a, b in zip(ends[FIRST - 1 :], ends[FIRST:], strict=False))
    print(f"{steps} steps in {total:.2f} s, their median is {1000 * step:.1f} ms")
    if saves := spent.pop(SAVES, [])[:-1]:  # the last is after the loop, or its end
        middle, worst = statistics.median(saves), max(saves)
        print(
            f"{len(saves)} checkpoints: training stood still for {1000 * middle:.0f} ms "
            f"({middle / step:.1%} of a step), at most {1000 * worst:.0f} ({worst / step:.1%})"
        )
    calls = {name: sum(seconds) / steps for name, seconds in spent.items()}
    total = sum(calls.values())
    each = ", ".join(
        f"{len(spent[name]) / steps:.1f} of {name} {1e6 * seconds:.0f}"
        for name, seconds in calls.items()
    )
    print(f"calls that make it safe: {1e6 * total:.0f} us a step ({total / step:.2%}): {each}")


def main() -> None:
    """Train, and say what was found."""
    from gan_mpi.__main__ import main as gan_mpi
    from gan_mpi.mpi.world import world

    comm = world()
    watch()
    with tempfile.TemporaryDirectory() as folder:
        sys.argv[1:] = ["train", *sys.argv[1:], "--run-dir", f"{comm.broadcast(folder)}/run"]
        try:
            gan_mpi()
        finally:
            if launcher.speaks_first() and len(ends) > FIRST:
                say()


if __name__ == "__main__":
    main()
