"""One data set divided into those of sites."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from gan_mpi.datasets import Dataset, Source, has_split, load_dataset
from gan_mpi.datasets.convert import files_of, write_files
from gan_mpi.errors import UserError
from gan_mpi.streams import Purpose, random_words


def split(
    source: Source, out: Path, sites: int, skew: float, seed: int, layout: str
) -> dict[Path, dict[str, int]]:
    """Write OUT/site-0, OUT/site-1 ..., each with its part of every split; return their counts.

    Raises UserError if the data cannot be divided so, or a file is there.
    """
    splits = [name for name in ("train", "test") if has_split(source, name)]
    written: dict[Path, bytes] = {}
    counts: dict[Path, dict[str, int]] = {
        out / f"site-{site}": {} for site in range(sites)
    }
    for name in splits or ["train"]:
        dataset = load_dataset(source, name)
        for folder, rows in zip(
            counts, divide(dataset, sites, skew, seed), strict=True
        ):
            labels = None if dataset.labels is None else dataset.labels[rows]
            part = replace(dataset, images=dataset.images[rows], labels=labels)
            counts[folder][name] = len(rows)
            if len(rows):
                files = files_of(part, name, layout)
                written |= {folder / file: data for file, data in files.items()}
    write_files(written)
    return counts


def divide(dataset: Dataset, sites: int, skew: float, seed: int) -> list[np.ndarray]:
    """Return the rows of each site, ascending.

    Of C classes, class c is at home at site c * sites // C.  A share `skew`, 0..1, of its samples,
    drawn at random, stays there; the others are dealt to all sites alike.

    Raises UserError if labels or samples are lacking.
    """
    count = len(dataset.images)
    if skew and dataset.labels is None:
        raise UserError(
            f"--skew: {dataset.source} has no labels beside it; leave the option out.",
            exit_code=2,
        )
    if count < sites:
        raise UserError(
            f"--sites: {dataset.source} holds {count} samples, too few for {sites} sites.",
            exit_code=2,
        )
    labels = np.zeros(count, np.int64) if dataset.labels is None else dataset.labels
    classes = int(labels.max()) + 1
    order = np.argsort(random_words(seed, Purpose.SPLIT, 0, 1, count)[0], kind="stable")
    found: list[list[np.ndarray]] = [[] for _ in range(sites)]
    dealt: list[np.ndarray] = []
    for label in range(classes):
        rows = order[labels[order] == label]
        staying = round(skew * len(rows))
        found[label * sites // classes].append(rows[:staying])
        dealt.append(rows[staying:])
    rest = np.concatenate(dealt)
    for site in range(sites):
        found[site].append(rest[site::sites])
    return [np.sort(np.concatenate(rows)) for rows in found]
