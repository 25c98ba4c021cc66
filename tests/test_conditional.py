"""A class on demand: pictures, arrays, files for other programs, and the average of G."""

import json

import numpy as np
import pytest
from PIL import Image

from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.drawing.generator import read_generator
from gan_mpi.drawing.samples import each_class, fill_grid
from gan_mpi.runs import checkpoint
from gan_mpi.streams import DataOrder


@pytest.fixture
def run(gan_mpi, tmp_path):
    """A short run with labels, an average, and dropout."""
    words = ("--steps", "6", "--batch", "32", "--conditional", "--ema", "1")
    words += ("--g-dropout", "0.2", "--lr", "0.001")
    done = gan_mpi("train", "--glyphs", "200", "--run-dir", "run", *words, size=2)
    assert done.returncode == 0, done.stderr
    return tmp_path / "run"


def arrays(path):
    with np.load(path) as archive:
        return archive["images"], archive["labels"]


def test_a_class_is_drawn_on_demand(gan_mpi, run, tmp_path):
    def draw(name, *words, size=None):
        done = gan_mpi("sample", run, "--format", "npz", "--out", name, *words, size=size)
        assert done.returncode == 0, done.stderr
        return arrays(tmp_path / name)

    images, labels = draw("all.npz")
    assert images.shape == (100, 28, 28)
    assert labels.tolist() == [n // 10 for n in range(100)]
    again, _ = draw("again.npz", size=3)
    assert np.array_equal(again, images)
    of_3, labels = draw("3.npz", "--class", "3", "--seeds", "0-99")
    assert labels.tolist() == [3] * 100
    same = [np.array_equal(images[30 + n], of_3[n]) for n in range(10)]
    assert all(same) and not np.array_equal(images[0], of_3[0])
    of_two, labels = draw("7.npz", "--seeds", "7,3,64", "--class", "1,0")
    assert labels.tolist() == [1, 1, 1, 0, 0, 0]  # every class with every seed
    assert np.array_equal(of_two[0], images[17]) and np.array_equal(of_two[1], images[13])
    assert np.array_equal(of_two[3], images[7]) and np.array_equal(of_two[4], images[3])
    own, _ = draw("own.npz", "--no-ema")
    assert not np.array_equal(own, images)

    wrong = gan_mpi("sample", run, "--class", "10", size=2)
    assert wrong.returncode == 2 and wrong.stderr.count("Error: --class") == 1
    assert "knows the classes 0 to 9, not 10" in wrong.stderr

    with Image.open(run / "fakes-000006.png") as picture:
        assert picture.width == picture.height  # ten of each of ten classes
    data = load_dataset(Source(glyphs=200))
    order = DataOrder(0, 200).indices(0, 200)
    threes = order[data.labels[order] == 3]
    with Image.open(run / "reals.png") as picture:
        row = np.asarray(picture)[2 + 3 * 58 : 58 + 3 * 58].reshape(56, -1)[::2]
    for column in (0, 9):  # of the real images of a class, as of its samples
        left = 2 + 58 * column
        assert np.array_equal(row[:, left : left + 56 : 2], data.images[threes[column], 0])
    moved = gan_mpi("sample", run, "--interpolate", "0:7", "--class", "2", "--frames", "3")
    assert "seed 0 to 7 of class 2 in 3 frames" in moved.stdout, moved.stderr
    grown = gan_mpi("sample", run, "--timelapse", "--out", "grown.gif")
    assert grown.returncode == 0, grown.stderr
    with Image.open(run.parent / "grown.gif") as picture:
        assert picture.width == picture.height, "every class has a row"

    for form in ("safetensors", "pt2"):
        done = gan_mpi("export", run, "--format", form)
        assert done.returncode == 0 and "differ by at most" in done.stdout, done.stderr


def test_a_presets_grid_hides_no_class_and_ones_own_is_said_to(gan_mpi, tmp_path):
    words = ("--glyphs", "40", "--batch", "20", "--steps", "1", "--conditional")
    done = gan_mpi("train", "--preset", "lightning", *words, "--run-dir", "all")
    assert done.returncode == 0 and "shows" not in done.stderr, done.stderr
    done = gan_mpi("train", *words, "--grid", "3x2", "--run-dir", "some", size=2)
    assert done.stderr.count("Warning: --grid 3x2 shows 2 of 10 classes; 3x10, all") == 1
    for name, size in (("all", (582, 582)), ("some", (176, 118))):
        with Image.open(tmp_path / name / "fakes-000001.png") as picture:
            assert picture.size == size


def test_the_average_is_what_a_checkpoint_is_sampled_from(run):
    path = run / "checkpoint-000006.pt"
    state = checkpoint.read_checkpoint(path)
    averaged, own = (read_generator(path, state, average).build() for average in (True, False))
    gaps = [
        (one - other).abs().max().item()
        for one, other in zip(averaged.parameters(), own.parameters(), strict=True)
    ]
    assert max(gaps) > 0
    assert state["G_ema"]["updates"] == 6
    config = json.loads((run / "config.json").read_text())["config"]
    assert (config["ema"], config["conditional"]) == (1.0, "projection")


def test_data_without_labels_are_refused(gan_mpi, idx_folder):
    (idx_folder / "train-labels-idx1-ubyte").unlink()
    done = gan_mpi("train", "--datadir", idx_folder, "--conditional", size=2)
    assert done.returncode == 1 and done.stderr.count("Error: --conditional") == 1
    assert "has no labels" in done.stderr


def test_rows_are_classes_and_columns_latents():
    assert fill_grid(2, 3, [4, 5]) == ([0, 1, 0, 1, 2, 3], [4, 4, 5, 5, 4, 4])
    assert fill_grid(2, 2, []) == ([0, 1, 2, 3], None)
    assert each_class([7, 9], [4, 5]) == ([7, 9, 7, 9], [4, 4, 5, 5])
    assert each_class([7, 9], []) == ([7, 9], None)
