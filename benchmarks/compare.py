"""Compares gan-mpi with other ways to train the same GAN: compare.py [options]."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
import torch
from contest import Contestant, Terms, call, contest_options, hold, ranks
from gan_mpi_run import gan_mpi

TOP = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).parent / "peers"


def torchrun(count: int) -> list[str]:
    """Return how so many processes are started."""
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*program, "--nproc-per-node", str(count)]


LAUNCH: dict[str, Callable[[int], list[str]]] = {
    "ddp": torchrun,
    "lightning_ddp": torchrun,
    "each_tensor": lambda count: [*ranks(count), sys.executable],
    "plain": lambda count: [sys.executable],
}


def peer(
    name: str, preset: str, batch: int, count: int, datadir: str | None, where: list[str]
) -> Callable[[int], float]:
    """Return what trains a preset by the program of that name."""
    data = [] if datadir is None else ["--datadir", datadir]

    def run(steps: int) -> float:
        options = ["--preset", preset, "--batch", str(batch), "--steps", str(steps), *data]
        options += where
        said = call([*LAUNCH[name](count), str(PEERS / f"{name}.py"), *options])
        return json.loads(said.splitlines()[-1])["seconds_per_step"]

    return run


@click.command()
@contest_options
@click.option("--peers", default="ddp", show_default=True, help="Those of benchmarks/peers.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "tf32"]), default="fp32", show_default=True)
def main(terms: Terms, peers: str, device: str, precision: str) -> None:
    """Train a preset by gan-mpi and by its peers in turn, on ranks of one thread.

    On a GPU there is one rank.
    """
    if device != "cpu" and terms.count != 1:
        raise click.UsageError("--device cuda compares one rank; give --ranks 1.")
    if device != "cpu" and "each_tensor" in peers:
        raise click.UsageError("each_tensor gives MPI the gradients, which are not on the host.")
    what = terms.preset, terms.batch, terms.count, terms.datadir
    where = ["--device", device, "--precision", precision]
    more = where + ["--graphs"] * (device != "cpu")
    contestants = [Contestant("gan-mpi", gan_mpi(*what, TOP, more))]
    chosen = peers.split(",")
    if unknown := [name for name in chosen if name not in LAUNCH]:
        raise click.BadParameter(
            f"{unknown[0]!r} is none of {', '.join(LAUNCH)}.", param_hint="'--peers'"
        )
    for name in chosen:
        if name == "plain" and terms.count != 1:
            raise click.UsageError("plain is one process; --ranks 1 would do.")
        contestants.append(Contestant(name, peer(name, *what, where)))
    on = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    hold(terms, contestants, f"{terms.count} rank(s) of one thread{on}")


if __name__ == "__main__":
    main()
