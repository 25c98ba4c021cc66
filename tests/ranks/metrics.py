"""Figures of features and of generators on the ranks of tests, the same on any number of them."""

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np

from gan_mpi.datasets import find
from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.errors import UserError
from gan_mpi.evaluation import frechet, kernel, neighbours
from gan_mpi.evaluation.extractor import bundled, read_classifier
from gan_mpi.programs.evaluate import evaluate
from gan_mpi.streams import Purpose, draw_latents
from ranks.training import on_sizes


def normals(seed, count, width):
    return draw_latents("normal", seed, Purpose.SAMPLES, 0, count, width)


def figures(comm, real, fake):
    """Return all figures of two arrays of features."""
    moments = [frechet.moments(comm, features) for features in (real, fake)]
    purposes = Purpose.BOOTSTRAP_REAL, Purpose.BOOTSTRAP_FAKE
    means = [kernel.mean_kernel(comm, *each) for each in zip((real, fake), purposes, strict=True)]
    distance, error = kernel.kernel_distance(*means, kernel.mean_cross_kernel(comm, fake, real))
    radii = neighbours.squared_radii(comm, real)
    rows, apart = neighbours.nearest_rows(comm, fake, real)
    return {
        "frechet": frechet.frechet_distance(*moments),
        "kernel": distance,
        "kernel_error": error,
        "rows": rows.tolist(),
        "apart": apart.tolist(),
        **neighbours.compare(comm, real, radii, fake),
    }


def figures_on_sizes(comm, sizes):
    """Return the figures of sets that no number of ranks divides, by the number of ranks."""
    real, fake = normals(1, 301, 6), 0.8 * normals(2, 200, 6) + 0.3
    return on_sizes(comm, sizes, lambda part: figures(part, real, fake))


def kernels_of_many(comm, repeats, count, width, shift):
    """Return the kernel distances of so many pairs of sets, and their errors."""
    found = []
    for seed in range(repeats):
        real, fake = normals(seed, count, width), normals(repeats + seed, count, width) + shift
        own = kernel.mean_kernel(comm, real, Purpose.BOOTSTRAP_REAL)
        of_fake = kernel.mean_kernel(comm, fake, Purpose.BOOTSTRAP_FAKE)
        cross = kernel.mean_cross_kernel(comm, fake, real)
        found.append(kernel.kernel_distance(own, of_fake, cross))
    return np.array(found).T.tolist()


def figures_of_points(comm, real, fake):
    """Return the figures of two lists of features."""
    return figures(comm, np.array(real, dtype=float), np.array(fake, dtype=float))


def evaluations_on_sizes(comm, sizes, runs, samples):
    """Evaluate runs on several numbers of ranks; return their records, by the number of ranks.

    Of points there are a tenth as many as usual.
    """
    find.DRAWN_TEST //= 10
    return on_sizes(comm, sizes, lambda part: [evaluated(part, run, samples) for run in runs])


def evaluated(comm, run_dir, samples):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluate(comm, Path(run_dir), None, None, samples, None, as_json=True)
    lines = (Path(run_dir) / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[-1])


def evaluate_outcomes(comm, calls, folder):
    """Call evaluate() for each source, step and classifier; return the error, as train_outcomes."""
    os.chdir(folder)
    found, find.DRAWN_TEST = [], 500
    for source, step, classifier in calls:
        try:
            found.append(evaluate(comm, Path(source), step, None, 100, classifier, True))
        except UserError as error:
            found.append([str(error), error.exit_code, error.on_all_ranks])
    return found


def write_features(comm, datadir, split, folder):
    """Write what the bundled classifier sees in this rank's part of MNIST."""
    path = bundled()["mnist"]
    extractor = read_classifier(path.read_bytes(), path)
    images = load_dataset(Source(datadir), split).images
    mine = np.array_split(images, comm.world_size)[comm.rank]
    parts = np.array_split(mine, len(mine) // 1000)
    found = np.concatenate([extractor.extract(part)[0] for part in parts])
    np.save(Path(folder) / f"{split}{comm.rank}.npy", found)


def distances_to_first(comm, path):
    """Return the Frechet distance of each array of a file to its first one."""
    with np.load(path) as arrays:
        first, *others = (frechet.moments(comm, rows) for rows in arrays.values())
    return [frechet.frechet_distance(first, other) for other in others]
