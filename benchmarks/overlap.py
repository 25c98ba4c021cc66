"""Measures what of the sums of gradients is hidden: mpiexec ... python benchmarks/overlap.py.

Two games that are alike are played in turn, one with --overlap and one with --no-overlap, by ranks
that should be on several nodes.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import click
import torch

from gan_mpi.bench.steps import Stage
from gan_mpi.clock import between
from gan_mpi.commands.train import parse_after_dashes
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import library_name, world
from gan_mpi.training.start import Start, find_start


@dataclass
class Found:
    """Milliseconds of steps, by step, the mean over ranks."""

    step: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    ahead: list[float] = field(default_factory=list)  # computing while sums went on
    looking: list[float] = field(default_factory=list)  # in calls of MPI meanwhile


class Side:
    """A game that is played with or without overlap."""

    def __init__(self, comm: Communicator, start: Start, overlap: bool) -> None:
        """Make its networks, with a communicator and a clock of its own.  Collective."""
        self.comm = Communicator(comm.mpi, comm.node)
        asked = replace(start, overlap=overlap)
        self.stage, self.found = Stage(self.comm, asked, torch.device("cpu")), Found()
        self.spent, self.is_ahead = {"ahead": 0.0, "looking": 0.0}, False
        supply, under_way = self.stage.ranks.supply, self.comm.under_way
        supply.make_ahead = self._ahead(self._timed("ahead", supply.make_ahead))
        under_way.look = self._timed("looking", under_way.look)

    def _timed(self, name: str, function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            began = time.perf_counter()
            function(*arguments)
            if self.is_ahead:
                self.spent[name] += time.perf_counter() - began

        return call

    def _ahead(self, function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            self.is_ahead = True
            function(*arguments)
            self.is_ahead = False

        return call

    def play(self, counts: bool) -> None:
        """Do a step.  Collective."""
        self.spent = dict.fromkeys(self.spent, 0.0)
        before, began = self.comm.clock.seconds(), time.perf_counter()
        self.stage.step()
        seconds, phases = time.perf_counter() - began, between(before, self.comm.clock.seconds())
        looking = self.spent["looking"]
        mine = seconds, phases["communication"], self.spent["ahead"] - looking, looking
        if counts:
            for name, each in zip(vars(self.found), zip(*self.comm.allgather(mine)), strict=True):
                getattr(self.found, name).append(1000 * statistics.mean(each))


def alike(one: Side, other: Side) -> bool:
    """Return whether all networks are equal to the bit."""
    networks = zip(
        one.stage.state.networks.values(), other.stage.state.networks.values(), strict=True
    )
    return all(
        torch.equal(a, b)
        for pair in networks
        for a, b in zip(*(network.state_dict().values() for network in pair), strict=True)
    )


@click.command()
@click.option("--blocks", default=10, show_default=True, help="Blocks of steps of each side.")
@click.option("--steps", default=10, show_default=True, help="Steps of a block.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Write all figures.")
@click.argument("options", nargs=-1)
@click.pass_context
def main(
    ctx: click.Context, blocks: int, steps: int, as_json: Path | None, options: tuple[str, ...]
) -> None:
    """Train with overlap and without, and say what it hides; options of train follow --."""
    comm = world()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    given = parse_after_dashes(options, ctx)
    start = comm.on_root(lambda: find_start(given))
    on, off = (Side(comm, start, overlap) for overlap in (True, False))
    for block in range(1 + blocks):
        for side in (on, off):
            for _ in range(steps):
                side.play(counts=block > 0)
    same = all(comm.allgather(alike(on, off)))
    if not comm.is_root:
        return
    print(f"{comm.world_size} ranks on {comm.node_count} node(s), {library_name()}")
    print("weights equal to the bit:", same)
    middle = {
        name: {key: statistics.median(each) for key, each in asdict(side.found).items()}
        for name, side in (("on", on), ("off", off))
    }
    for name, figures in middle.items():
        print(name, ", ".join(f"{key} {value:.2f} ms" for key, value in figures.items()))
    if why_not := on.stage.ranks.supply.overlap.why_not:
        print("nothing is hidden:", why_not)
    else:
        _say_share(middle["on"], middle["off"])
    if as_json is not None:
        both = {"on": asdict(on.found), "off": asdict(off.found), "same": same}
        as_json.write_text(json.dumps(both, indent=2))


def _say_share(on: dict[str, float], off: dict[str, float]) -> None:
    """Say what is hidden of what could be.

    That is no more than ranks wait for without overlap, nor than they compute ahead, less what
    computing takes longer while sums go on: TCP wants the processor too.
    """
    taken = (on["step"] - on["waiting"]) - (off["step"] - off["waiting"])
    could = min(off["waiting"], on["ahead"]) - taken
    hidden = off["step"] - on["step"]
    print(f"computing takes {taken:.2f} ms longer, of it {on['looking']:.2f} in calls of MPI")
    print(f"hidden: {hidden:.2f} ms a step, {100 * hidden / could:.0f} % of {could:.2f}")


if __name__ == "__main__":
    main()
