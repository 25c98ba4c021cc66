"""The figures mean what their papers say, and real sets of images get sensible ones."""

import numpy as np
import pytest
import scipy.linalg
from ranks.metrics import normals

from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.evaluation import classes
from gan_mpi.streams import DataOrder

# What prdc 0.2, the reference code of Naeem et al., says of normals(1, 301, 6) and
# 0.8 * normals(2, 200, 6) + 0.3 with nearest_k=5.
PRDC = {
    "precision": 0.99,
    "recall": 0.7209302325581395,
    "density": 1.3010000000000002,
    "coverage": 0.8205980066445183,
}


@pytest.fixture(scope="module")
def on_sizes(mpirun):
    """The figures of two sets on 1, 2 and 3 ranks."""
    return mpirun(3, "figures_on_sizes", [1, 2, 3])[0]


def test_any_number_of_ranks_gets_the_same(on_sizes):
    alone = on_sizes["1"]
    for other in (on_sizes["2"], on_sizes["3"]):
        for name, value in alone.items():
            assert other[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name


def test_the_frechet_distance_is_that_of_scipys_matrix_root(on_sizes):
    real, fake = normals(1, 301, 6), 0.8 * normals(2, 200, 6) + 0.3
    one, other = np.cov(real.T), np.cov(fake.T)
    root = scipy.linalg.sqrtm(one @ other).real
    expected = np.square(real.mean(0) - fake.mean(0)).sum()
    expected += np.trace(one + other - 2 * root)
    assert on_sizes["1"]["frechet"] == pytest.approx(expected, rel=1e-9)


def test_the_kernel_distance_is_that_of_its_definition(on_sizes):
    def k(x, y):
        return (x @ y / 6 + 1) ** 3

    sets = normals(1, 301, 6), 0.8 * normals(2, 200, 6) + 0.3
    own = [
        np.mean([k(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])
        for rows in sets
    ]
    cross = np.mean([k(x, y) for x in sets[0] for y in sets[1]])
    assert on_sizes["1"]["kernel"] == pytest.approx(sum(own) - 2 * cross, rel=1e-9)


@pytest.mark.parametrize(("shift", "low", "high"), [(0.5, 0.8, 1.25), (0.0, 1.0, 2.5)])
def test_the_interval_of_the_kernel_distance_is_as_wide_as_it_scatters(mpirun, shift, low, high):
    """Of 40 pairs of sets; where both have one law, a bootstrap is known to be too wide."""
    distances, errors = mpirun(1, "kernels_of_many", 40, 300, 6, shift)[0]
    ratio = np.mean(errors) / (1.96 * np.std(distances, ddof=1))
    assert low < ratio < high, ratio


def test_precision_recall_density_and_coverage_are_those_of_the_reference_code(
    on_sizes,
):
    for name, value in PRDC.items():
        assert on_sizes["1"][name] == pytest.approx(value, abs=1e-12), name


def test_a_worked_example_on_a_line(mpirun):
    """Reals 0 to 11 have radii 5 4 3 ... 3 4 5; of seven fakes one is far off, at 40.

    The others lie in 5, 6, 6, 4, 6 and 6 open balls: density 33 / (5 x 7), and precision 6 / 7.
    """
    real = [[x] for x in range(12)]
    fake = [[0.4], [3.2], [3.3], [40.0], [11.5], [5.6], [2.1]]
    found = mpirun(2, "figures_of_points", real, fake)[0]
    assert found["density"] == pytest.approx(33 / 35)
    assert found["precision"] == pytest.approx(6 / 7)
    assert (found["recall"], found["coverage"]) == (1.0, 1.0)
    assert found["rows"] == [0, 3, 3, 11, 11, 6, 2]
    assert found["apart"] == pytest.approx([0.4, 0.2, 0.3, 29.0, 0.5, 0.4, 0.1])


def test_the_classifier_score_and_the_histogram():
    sure = np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]]
    assert classes.classifier_score(sure) == pytest.approx(4.0)
    assert classes.classifier_score(np.full((5, 4), 0.25)) == pytest.approx(1.0)
    collapsed = np.eye(4)[[1] * 97 + [0] * 3]
    shares = classes.histogram(collapsed)
    assert shares.tolist() == [0.03, 0.97, 0.0, 0.0]
    assert classes.missing_modes(shares, np.full(4, 0.25)) == [2, 3]
    assert classes.missing_modes(shares, np.array([0.2, 0.75, 0.05, 0.0])) == [2]
    assert classes.divergence_from_uniform(shares) == pytest.approx(
        0.03 * np.log(0.12) + 0.97 * np.log(3.88)
    )
    assert classes.divergence_from_uniform(np.full(4, 0.25)) == 0.0


@pytest.fixture(scope="module")
def real_features(mnist, mpirun, tmp_path_factory):
    """Features of MNIST's training and test images by the bundled classifier; training labels."""
    folder, found = tmp_path_factory.mktemp("features"), []
    for split in ("train", "test"):
        mpirun(2, "write_features", str(mnist), split, str(folder))
        parts = [np.load(folder / f"{split}{rank}.npy") for rank in range(2)]
        found.append(np.concatenate(parts))
    return *found, load_dataset(Source(str(mnist)), "train").labels


@pytest.mark.slow
def test_the_distance_between_real_sets_behaves(mpirun, tmp_path, real_features):
    """Of a set to itself 0; much the same for any 10,000 training images; far without a class."""
    train, test, labels = real_features
    draws = [DataOrder(draw, 60_000).indices(0, 10_000) for draw in range(5)]
    first = DataOrder(0, 60_000).indices(0, 30_000)
    without = [first[labels[first] != digit][:10_000] for digit in range(10)]
    np.savez(tmp_path / "sets.npz", test, test, *(train[r] for r in [*draws, *without]))
    itself, *others = mpirun(1, "distances_to_first", str(tmp_path / "sets.npz"))[0]
    assert abs(itself) < 1e-6
    floors, removed = np.array(others[:5]), np.array(others[5:])
    print("floors", floors.round(4), "without a class", removed.round(2))
    assert (floors.max() - floors.min()) / floors.mean() < 0.10
    assert (removed > 3 * floors.mean()).all()
