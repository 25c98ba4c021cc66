"""One data set divided into those of sites."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from gan_mpi.arrays import Array
from gan_mpi.datasets.convert import Say, files_of, read_splits, write_files
from gan_mpi.datasets.dataset import Dataset, Source
from gan_mpi.errors import UserError
from gan_mpi.streams import Purpose, random_words


def split(
    source: Source, out: Path, sites: int, skew: float, seed: int, layout: str, say: Say
) -> dict[Path, dict[str, int]]:
    """Write OUT/site-0, OUT/site-1 ..., each with its part of every split; return their counts.

    Raises UserError if the data cannot be divided so, or a file is there.
    """
    datasets = read_splits(source, say)
    labels = datasets["train"].labels
    classes = 1 if labels is None else int(labels.max()) + 1
    written: dict[Path, bytes] = {}
    counts: dict[Path, dict[str, int]] = {out / f"site-{site}": {} for site in range(sites)}
    for name, dataset in datasets.items():
        parts = divide(dataset, sites, skew, seed, classes)
        if name == "train" and not all(len(rows) for rows in parts):
            raise UserError(
                f"--sites: {len(dataset.images)} samples of {classes} classes leave some of "
                f"{sites} sites without any at --skew {skew:g}; give fewer sites, or less skew.",
                exit_code=2,
            )
        for folder, rows in zip(counts, parts, strict=True):
            kept = None if dataset.labels is None else dataset.labels[rows]
            part = replace(dataset, images=dataset.images[rows], labels=kept)
            counts[folder][name] = len(rows)
            if len(rows):
                files = files_of(part, name, layout)
                written |= {folder / file: data for file, data in files.items()}
    write_files(written)
    return counts


def divide(dataset: Dataset, sites: int, skew: float, seed: int, classes: int) -> list[Array]:
    """Return the rows of each site, ascending.

    Of C `classes`, class c is at home at site c * sites // C.  A share `skew`, 0..1, of its
    samples, drawn at random, stays there; the others are dealt to all sites alike.

    Samples of further classes are dealt alike.  Raises UserError if labels are lacking.
    """
    count = len(dataset.images)
    if skew and dataset.labels is None:
        raise UserError(
            f"--skew: {dataset.source} has no labels beside it; leave the option out.",
            exit_code=2,
        )
    labels = np.zeros(count, np.int64) if dataset.labels is None else dataset.labels
    order = np.argsort(random_words(seed, Purpose.SPLIT, 0, 1, count)[0], kind="stable")
    parts: list[list[Array]] = [[] for _ in range(sites)]
    dealt: list[Array] = []
    for label in np.unique(labels).tolist():  # bytes, whose products would not fit in one
        rows = order[labels[order] == label]
        staying = round(skew * len(rows)) if label < classes else 0
        if staying:
            parts[label * sites // classes].append(rows[:staying])
        dealt.append(rows[staying:])
    rest = np.concatenate(dealt)
    for site in range(sites):
        parts[site].append(rest[site::sites])
    return [np.sort(np.concatenate(rows)) for rows in parts]
