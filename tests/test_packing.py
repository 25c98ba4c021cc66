"""Data are packed whole or not at all, and what is packed is what was there."""

import errno
import os
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import write_glyphs, write_idx, write_idx_files
from PIL import Image
from test_claim import wait_for

from gan_mpi.cli import cli
from gan_mpi.datasets import convert, packed
from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.datasets.npz import bytes_of


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def command(*words):
    return CliRunner().invoke(cli, list(map(str, words)))


def pack(folder, out):
    result = command("data", "convert", folder, out, "--to", "packed")
    assert result.exit_code == 0, result.output
    return out


def load(folder, split="train"):
    return load_dataset(Source(str(folder)), split)


def is_map(array):
    return "mmap" in repr(_base(array))


def _base(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return array


def write_idx_with_tests(folder):
    folder.mkdir()
    write_idx(folder)


def write_colours(folder):
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3, 16, 16), np.uint8)
    (folder / "train.npz").write_bytes(bytes_of(pixels, None))


def write_classes(folder, modes=("L", "RGB", "L")):
    """Pictures of two classes in both splits, of which the first are grey."""
    numbers = np.random.default_rng(0)
    for split, each in (("train", 5), ("test", 2)):
        for name in ("dog", "cat"):
            (folder / split / name).mkdir(parents=True)
            for n in range(each):
                pixels = numbers.integers(0, 256, (40, 32, 3), np.uint8)
                picture = Image.fromarray(pixels).convert(modes[n % len(modes)])
                picture.save(folder / split / name / f"{n}.png")
    (folder / "train" / "cat" / "notes.doc").write_text("x")


MAKERS = {
    "idx": write_idx_with_tests,
    "npz": lambda folder: write_glyphs(folder, 0, 40, tests=9),
    "colours": write_colours,
    "pictures": write_classes,
    "grey pictures": lambda folder: write_classes(folder, ("L",)),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("part", [1000, packed.PART])
def test_packed_data_are_those_that_were_packed(tmp_path, monkeypatch, make, part):
    monkeypatch.setattr(packed, "PART", part)
    make(tmp_path / "data")
    pack(tmp_path / "data", tmp_path / "out")
    for split in ("train", "test"):
        if split == "test" and not (tmp_path / "out" / split).exists():
            continue
        before, after = load(tmp_path / "data", split), load(tmp_path / "out", split)
        assert before.images.dtype == after.images.dtype == np.uint8
        assert np.array_equal(before.images, after.images) and is_map(after.images)
        assert (before.labels is None) == (after.labels is None)
        assert before.labels is None or np.array_equal(before.labels, after.labels)
        assert (before.sha256, before.classes) == (after.sha256, after.classes)
        assert not after.images.flags.writeable
        saved = np.load(tmp_path / "out" / split / "images.npy")
        assert np.array_equal(saved, before.images), "numpy reads it too"


def test_what_is_said_of_pictures_is_said_when_they_are_packed(tmp_path):
    write_classes(tmp_path / "data")
    result = command("data", "convert", tmp_path / "data", tmp_path / "out", "--to", "packed")
    assert result.stderr == "Note: left out: 1 file .doc\n"
    info = command("data", "info", tmp_path / "out")
    assert "10 images of 3x32x32" in info.output and "classes: 0 cat, 1 dog" in info.output
    plain = command("data", "info", tmp_path / "data")
    assert re.findall("pixels.*", info.output) == re.findall("pixels.*", plain.output)


def test_brightness_is_that_of_all_pixels(tmp_path):
    write_colours(tmp_path / "data")
    images = load(tmp_path / "data").images
    said = f"pixels {images.min()}..{images.max()}, mean {images.mean():.2f}, standard deviation "
    assert said + f"{images.std():.2f}\n" in command("data", "info", tmp_path / "data").output


def test_another_layout_can_be_made_of_it(tmp_path):
    write_classes(tmp_path / "data")
    pack(tmp_path / "data", tmp_path / "out")
    assert (
        command("data", "convert", tmp_path / "out", tmp_path / "npz", "--to", "npz").exit_code == 0
    )
    assert load(tmp_path / "npz").sha256 == load(tmp_path / "data").sha256


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(tmp_path):
    write_classes(tmp_path / "data")
    (tmp_path / "data" / "test" / "dog" / "1.png").write_bytes(b"nothing")
    result = command("data", "convert", tmp_path / "data", tmp_path / "out", "--to", "packed")
    assert result.exit_code == 1 and "is no picture, or damaged" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    (tmp_path / "data" / "test" / "dog" / "1.png").unlink()
    out = pack(tmp_path / "data", tmp_path / "out")
    before = (out / packed.FILE).read_bytes()
    again = command("data", "convert", tmp_path / "data", out, "--to", "packed")
    assert again.exit_code == 1
    assert str(again.exception) == f"OUT: {out}/train/images.npy exists; give another folder."
    assert (out / packed.FILE).read_bytes() == before


def test_pictures_can_be_packed_where_they_are(tmp_path):
    write_classes(tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "test")
    for name in ("cat", "dog"):
        (tmp_path / "data" / "train" / name).rename(tmp_path / "data" / name)
    shutil.rmtree(tmp_path / "data" / "train")
    before = load(tmp_path / "data")
    pack(tmp_path / "data", tmp_path / "data")
    assert load(tmp_path / "data").sha256 == before.sha256
    assert is_map(load(tmp_path / "data").images)
    nowhere = command("data", "convert", tmp_path / "no", tmp_path / "other", "--to", "packed")
    assert nowhere.exit_code == 1 and not (tmp_path / "other").exists()


@pytest.mark.parametrize("without", ["train", "t10k"])
def test_one_split_may_have_labels_and_names(tmp_path, without):
    (tmp_path / "data").mkdir()
    write_idx(tmp_path / "data", count=20)
    images = np.zeros((10, 28, 28), np.uint8)
    write_idx_files(tmp_path / "data", "t10k", images, np.arange(10) % 10)
    (tmp_path / "data" / "classes.txt").write_text("".join(f"c{n}\n" for n in range(10)))
    (tmp_path / "data" / f"{without}-labels-idx1-ubyte").unlink()
    pack(tmp_path / "data", tmp_path / "out")
    for split in ("train", "test"):
        before, after = load(tmp_path / "data", split), load(tmp_path / "out", split)
        assert (before.sha256, before.classes) == (after.sha256, after.classes)
    named = "test" if without == "train" else "train"
    assert load(tmp_path / "out", named).classes == tuple(f"c{n}" for n in range(10))


@pytest.mark.launch
def test_a_stop_while_packing_leaves_nothing(start, tmp_path):
    numbers = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for n in range(300):
        Image.fromarray(numbers.integers(0, 256, (300, 300, 3), np.uint8)).save(
            tmp_path / "data" / f"{n}.bmp"
        )
    process = start("data", "convert", "data", "out", "--to", "packed", "--resolution", 512)
    wait_for(lambda: list(tmp_path.glob(".out.*.tmp/train/images.npy")))
    process.terminate()
    assert process.wait(20) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_what_is_packed_is_on_the_disk_of_out_and_there_whole_or_not_at_all(tmp_path, monkeypatch):
    write_glyphs(tmp_path / "data", 0, 20)
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    moves, replace = [], os.replace

    def move(source, to):
        moves.append(source)
        if len(moves) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, to)

    monkeypatch.setattr(convert.os, "replace", move)
    result = command("data", "convert", tmp_path / "data", tmp_path / "out", "--to", "packed")
    assert "cannot write" in str(result.exception)
    assert all(path.is_relative_to(tmp_path / "disk") for path in moves)
    assert [path for path in (tmp_path / "disk").rglob("*") if path.is_file()] == []
    pack(tmp_path / "data", tmp_path / "out")
    assert len(load(tmp_path / "out").images) == 20
