"""Compares ranks that train together with as many that train alone, at the same time.

Ranks of a node share its caches and memory whether they speak to each other or not.  Processes
that train alone side by side share them too: what is left is the price of training together.
"""

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from contest import Contestant, Terms, contest_options, hold
from gan_mpi_run import gan_mpi

TOP = Path(__file__).resolve().parents[1]


def side_by_side(run: Callable[[int], float], count: int) -> Callable[[int], float]:
    """Return what runs so many at once; the time of a step is the mean of theirs."""

    def run_all(steps: int) -> float:
        with ThreadPoolExecutor(count) as pool:
            return statistics.mean(pool.map(run, [steps] * count))

    return run_all


@click.command()
@contest_options
@click.argument("more", nargs=-1)
def main(terms: Terms, more: tuple[str, ...]) -> None:
    """Train with ranks, and with as many processes of one rank; further options after --."""
    batch, count = terms.batch, terms.count

    def ranks(of_each: int, number: int) -> Callable[[int], float]:
        return gan_mpi(terms.preset, of_each, number, terms.datadir, TOP, list(more))

    contestants = [
        Contestant(f"{count} ranks", ranks(batch, count)),
        Contestant(f"{count} alone, a share each", side_by_side(ranks(batch // count, 1), count)),
        Contestant(f"{count} alone, a batch each", side_by_side(ranks(batch, 1), count)),
    ]
    hold(terms, contestants, f"one thread a rank {' '.join(more)}")
    together, share, whole = (each.seconds for each in contestants)
    for name, parts, alone in (("weak", 1, share), ("strong", count, whole)):
        found = [a / parts / b for a, b in zip(alone, together, strict=True)]
        low, middle, high = (100 * f(found) for f in (min, statistics.median, max))
        print(f"{name} efficiency: {middle:.0f} % ({low:.0f} to {high:.0f})")


if __name__ == "__main__":
    main()
