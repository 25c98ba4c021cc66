"""Compares this tree with another commit of it: self.py COMMIT [options]."""

import io
import shlex
import subprocess
import tarfile
import tempfile
from pathlib import Path

import click
from contest import Contestant, Terms, contest_options, hold
from gan_mpi_run import gan_mpi

TOP = Path(__file__).resolve().parents[1]


@click.command()
@click.argument("commit")
@contest_options
@click.option("--here", default="", help="Options for this tree alone, in one word.")
@click.argument("more", nargs=-1)
def main(terms: Terms, commit: str, here: str, more: tuple[str, ...]) -> None:
    """Train with this tree and with COMMIT in turn; further options, after --, are for both."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "-C", str(TOP), "archive", commit, "gan_mpi"], check=True, capture_output=True
        )
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        what = terms.preset, terms.batch, terms.count, terms.datadir
        contestants = [
            Contestant(name, gan_mpi(*what, tree, [*more, *only]))
            for name, tree, only in (
                (f"this tree {here}".strip(), TOP, shlex.split(here)),
                (commit, Path(folder), []),
            )
        ]
        hold(terms, contestants, f"{terms.count} rank(s) of one thread {' '.join(more)}")


if __name__ == "__main__":
    main()
