"""Compares this tree with another commit of it: self.py COMMIT [options]."""

import io
import shlex
import subprocess
import tarfile
import tempfile
from pathlib import Path

import click
from contest import Contestant, as_json, compete, contest_options, table
from gan_mpi_run import gan_mpi

TOP = Path(__file__).resolve().parents[1]


@click.command()
@click.argument("commit")
@contest_options
@click.option("--here", default="", help="Options for this tree alone, in one word.")
@click.argument("more", nargs=-1)
def main(
    commit: str,
    preset: str,
    batch: int,
    count: int,
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
            Contestant(name, gan_mpi(preset, batch, count, datadir, tree, [*more, *only]))
            for name, tree, only in (
                (f"this tree {here}".strip(), TOP, shlex.split(here)),
                (commit, Path(folder), []),
            )
        ]
        compete(contestants, pairs, steps, seconds)
    print(f"{preset}, batch {batch}, {count} rank(s) of one thread {' '.join(more)}")
    print("\n".join(table(contestants)))
    if as_file:
        about = {"preset": preset, "batch": batch, "ranks": count}
        Path(as_file).write_text(as_json(contestants, about))


if __name__ == "__main__":
    main()
