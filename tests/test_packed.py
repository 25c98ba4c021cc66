"""Packed data: mapped, not read, checked once, and the same as those that were packed."""

import json
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import MAIN, write_glyphs, write_idx, write_idx_files
from PIL import Image
from test_claim import wait_for

from gan_mpi import streams
from gan_mpi.cli import cli
from gan_mpi.datasets import packed
from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.datasets.npz import bytes_of
from gan_mpi.errors import UserError
from gan_mpi.runs.checkpoint import read_checkpoint
from gan_mpi.streams import DataOrder, Purpose, random_words


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


def test_a_cache_that_may_not_be_looked_into_is_none(tmp_path, monkeypatch):
    write_glyphs(tmp_path / "data", 0, 20)
    out = pack(tmp_path / "data", tmp_path / "out")

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(packed.Path, "is_file", refused)
    memory = packed.Memory(tmp_path / "x", "")
    assert not memory.is_there()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "data" / "train.npz"))  # a file
    assert len(load(out).images) == 20


def test_what_changes_while_it_is_checked_is_not_remembered(tmp_path, monkeypatch):
    write_glyphs(tmp_path / "data", 0, 20)
    out = pack(tmp_path / "data", tmp_path / "out")
    check = packed.Packed.check

    def interrupted(self):
        check(self)
        damage(out / "train/images.npy", -5, b"\1\2\3")

    monkeypatch.setattr(packed.Packed, "check", interrupted)
    load(out)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="its pixels 0 to"):
        load(out)


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


def damage(path, at, data):
    with path.open("r+b") as file:
        file.seek(at, 2 if at < 0 else 0)
        file.write(data)


def described(out, **changes):
    record = json.loads((out / packed.FILE).read_text())
    (out / packed.FILE).write_text(json.dumps({**record, **changes}))


def changed(out, **changes):
    record = json.loads((out / packed.FILE).read_text())
    described(out, train={**record["train"], **changes})


DAMAGES = {
    "a pixel": (
        lambda out: damage(out / "train/images.npy", -5, b"\1\2\3"),
        "its pixels 7000 to 78",
    ),
    "a label": (
        lambda out: damage(out / "train/labels.npy", -1, b"\1"),
        "its labels are not those",
    ),
    "cut off": (
        lambda out: (out / "train/images.npy").write_bytes(
            (out / "train/images.npy").read_bytes()[:-1]
        ),
        "is truncated or damaged: it should hold 10x1x28x28 bytes",
    ),
    "another array": (
        lambda out: np.save(out / "train/images.npy", np.zeros((10, 1, 28, 28))),
        "is truncated or damaged",
    ),
    "no array": (
        lambda out: (out / "train/labels.npy").write_bytes(b"x"),
        "is truncated or damaged",
    ),
    "gone": (lambda out: (out / "train/labels.npy").unlink(), "cannot read"),
    "a later format": (
        lambda out: described(out, format=2),
        "packed.json is of format 2, and this gan-mpi reads 1",
    ),
    "no JSON": (lambda out: (out / packed.FILE).write_text("{"), "packed.json is damaged"),
    "a wrong shape": (lambda out: described(out, train={"images": 3}), "packed.json is damaged"),
    "too few classes": (
        lambda out: described(out, classes=["one"]),
        "packed.json names 1 classes, and a label is 9",
    ),
    "infinitely many images": (
        lambda out: changed(out, images=[float("inf"), 1, 28, 28]),
        "packed.json is damaged",
    ),
}


@pytest.mark.parametrize(("do", "said"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_once_on_any_number_of_ranks(gan_mpi, tmp_path, monkeypatch, do, said):
    monkeypatch.setattr(packed, "PART", 1000)
    write_glyphs(tmp_path / "data", 0, 10)
    do(pack(tmp_path / "data", tmp_path / "out"))
    code = "from gan_mpi.datasets import packed; packed.PART = 1000; " + MAIN
    result = gan_mpi("train", "--datadir", "out", "--steps", 2, size=2, code=code)
    assert result.returncode == 1, result.stderr
    assert result.stderr.count("Error:") == 1 and said in result.stderr
    assert said in str(command("data", "info", tmp_path / "out").exception)


def test_ranks_check_each_part_once_and_remember_it(gan_mpi, tmp_path, monkeypatch):
    """What was checked is not read again, until the files are others."""
    write_glyphs(tmp_path / "data", 0, 40, tests=9)
    out = pack(tmp_path / "data", tmp_path / "out")
    code = (
        "from gan_mpi.datasets import packed; packed.PART = 1000\n"
        "plain = packed._bytes_of\n"
        "def told(path, first, count):\n"
        "    print('read', path.name, first, flush=True); yield from plain(path, first, count)\n"
        "packed._bytes_of = told\n"
        "from gan_mpi.__main__ import main\n"
        "try: main()\n"
        "finally: packed._bytes_of, packed.PART = plain, 64 << 20\n"
    )
    monkeypatch.setattr(packed, "PART", 1000)
    shutil.rmtree(out)
    pack(tmp_path / "data", out)
    train = ("train", "--datadir", "out", "--steps", 2, "--batch", 8)

    def read(size):
        result = gan_mpi(*train, size=size, code=code)
        assert result.returncode == 0, result.stderr
        return sorted(line for line in result.stdout.splitlines() if line.startswith("read "))

    parts = [f"read images.npy {first}" for first in range(0, 40 * 784, 1000)]
    assert read(2) == sorted([*parts, "read labels.npy 0"])
    assert read(2) == read(None) == []
    data = (out / "train/images.npy").read_bytes()
    (out / "train/images.npy").write_bytes(data)
    assert len(read(3)) == len(parts) + 1


def test_a_check_that_takes_long_is_told_of_once(gan_mpi, tmp_path):
    write_glyphs(tmp_path / "data", 0, 40)
    pack(tmp_path / "data", tmp_path / "out")
    code = "from gan_mpi.parallel import data; data.LARGE = 1000; " + MAIN
    for told in (1, 0):
        result = gan_mpi("train", "--datadir", "out", "--steps", 1, size=2, code=code)
        assert result.returncode == 0
        line = "Note: checking the 0 GB in out/train; later starts need not\n"
        assert result.stderr.count(line) == told


def test_it_trains_as_the_data_did_that_were_packed(gan_mpi, tmp_path):
    """To the bit, and a run goes on with either."""
    write_glyphs(tmp_path / "data", 0, 60, tests=9)
    pack(tmp_path / "data", tmp_path / "out")
    options = ("--batch", 16, "--conditional", "projection")
    for folder, steps, run in (("data", 6, "a"), ("out", 6, "b"), ("out", 3, "c")):
        words = ("train", "--datadir", folder, "--steps", steps, "--run-dir", run, *options)
        assert gan_mpi(*words, size=2).returncode == 0
    more = gan_mpi("train", "--resume", "c", "--datadir", "data", "--steps", 6, size=2)
    assert more.returncode == 0, more.stderr
    runs = [read_checkpoint(tmp_path / run / "checkpoint-000006.pt") for run in "abc"]
    for player in "GD":
        for name, value in runs[0][player].items():
            assert all(bool((run[player][name] == value).all()) for run in runs), name


def test_a_map_that_was_looked_at_does_not_count_as_memory(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4000, 3, 32, 32), np.uint8)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "train.npz", images=pixels)
    images = load(pack(tmp_path / "data", tmp_path / "out")).images
    rows = np.random.default_rng(1).integers(0, 4000, 100)
    assert images.sum() == pixels.sum() and resident(tmp_path / "out") > 10_000
    taken = packed.take(images, rows)
    assert np.array_equal(taken, pixels[rows]) and taken.flags.writeable
    assert resident(tmp_path / "out") == 0
    assert np.array_equal(packed.take(pixels, rows), pixels[rows])


def resident(folder):
    """Return how many KiB of maps of the files in a folder count as memory of this process."""
    with open("/proc/self/smaps") as file:
        maps = re.split(r"\n(?=[0-9a-f]+-)", file.read())
    return sum(int(re.search(r"Rss: +(\d+)", each)[1]) for each in maps if str(folder) in each)


def test_the_order_is_that_of_a_stable_sort():
    words = random_words(7, Purpose.ORDER, 2, 3, 5000)[0]
    assert np.array_equal(
        DataOrder(7, 5000).indices(10_000, 15_000), np.argsort(words, kind="stable")
    )
    twice = np.repeat(np.arange(5000, dtype=np.uint64)[::-1], 2)
    assert np.array_equal(streams._order(twice), np.argsort(twice, kind="stable"))
