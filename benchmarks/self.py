"""Compares this tree with another commit of it: self.py COMMIT [options]."""

import io
import shlex
import subprocess
import tarfile
import tempfile
from pathlib import Path

import click
from contest import Contestant, as_json, compete, table
from gan_mpi_run import gan_mpi

TOP = Path(__file__).resolve().parents[1]


@click.command()
@click.argument("commit")
@click.option("--preset", default="basic", show_default=True)
@click.option("--batch", default=128, show_default=True, help="Images over all ranks.")
@click.option("--ranks", default=2, show_default=True)
@click.option("--datadir", help="MNIST; without it 2,000 drawn digits.")
@click.option("--pairs", default=5, show_default=True)
@click.option("--steps", default=60, show_default=True, help="Least steps of a run.")
@click.option("--seconds", default=20.0, show_default=True, help="Least seconds of a run.")
@click.option("--here", default="", help="Options for this tree alone, in one word.")
@click.option("--json", "as_file", type=click.Path(), help="Write all figures to a file.")
@click.argument("more", nargs=-1)
def main(
    commit: str,
    preset: str,
    batch: int,
    ranks: int,
    datadir: str | None,
    pairs: int,
    steps: int,
    seconds: float,
    here: str,
    as_file: str | None,
    more: tuple[str, ...],
) -> None:
    """Train with this tree and with COMMIT in turn; further options, after --, are for both."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "-C", str(TOP), "archive", commit, "gan_mpi"], check=True, capture_output=True
        )
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        contestants = [
            Contestant(name, gan_mpi(preset, batch, ranks, datadir, tree, [*more, *only]))
            for name, tree, only in (
                (f"this tree {here}".strip(), TOP, shlex.split(here)),
                (commit, Path(folder), []),
            )
        ]
        compete(contestants, pairs, steps, seconds)
    print(f"{preset}, batch {batch}, {ranks} rank(s) of one thread {' '.join(more)}")
    print("\n".join(table(contestants)))
    if as_file:
        about = {"preset": preset, "batch": batch, "ranks": ranks}
        Path(as_file).write_text(as_json(contestants, about))


if __name__ == "__main__":
    main()
