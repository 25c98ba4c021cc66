"""Packed data: mapped, not read, checked once, and the same as those that were packed."""

import ctypes
import json
import mmap
import os
import re
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import MAIN, write_glyphs
from test_packing import command, load, own_cache, pack  # noqa: F401

from gan_mpi.arrays import map_of, read_ahead, take
from gan_mpi.datasets import packed
from gan_mpi.errors import UserError
from gan_mpi.game.host import Host
from gan_mpi.runs.checkpoint import read_checkpoint
from gan_mpi.training import feed


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
    taken = take(images, rows)
    assert np.array_equal(taken, pixels[rows]) and taken.flags.writeable
    assert resident(tmp_path / "out") == 0
    assert np.array_equal(take(pixels, rows), pixels[rows])


@pytest.mark.parametrize(
    ("count", "side"), [(4000, 32), pytest.param(20, 512, marks=pytest.mark.slow)]
)
def test_rows_are_read_ahead(tmp_path, count, side):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), np.uint8)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "train.npz", images=pixels)
    images = load(pack(tmp_path / "data", tmp_path / "out")).images
    with open(tmp_path / "out" / "train" / "images.npy", "rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached(images).any():
        pytest.skip("this file system does not drop what it is told to")
    rows = np.array([7, count - 1])
    read_ahead(images, rows)
    wanted = np.zeros(pixels.nbytes, bool).reshape(count, -1)
    wanted[rows] = True
    deadline = time.monotonic() + 20
    while not cached(images)[wanted.reshape(-1)].all():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert cached(images).mean() < 0.2, "and not the others"
    read_ahead(pixels, rows)  # which are in memory


def test_the_next_batch_is_read_while_this_one_is_trained_on(tmp_path, monkeypatch):
    write_glyphs(tmp_path / "data", 0, 20)
    dataset = load(pack(tmp_path / "data", tmp_path / "out"))
    config = SimpleNamespace(batch=6, seed=0, precision="fp32", range="unit")
    config.steps, config.images_per_step = 10, 6
    game = SimpleNamespace(G=SimpleNamespace(network=None), draws=())
    data = SimpleNamespace(label_counts=None)
    state = SimpleNamespace(config=config, draws=config, game=game, data=data, host=Host())
    asked, taken = [], []
    monkeypatch.setattr(feed, "read_ahead", lambda images, rows: asked.append(rows.tolist()))
    monkeypatch.setattr(
        feed, "take", lambda images, rows: taken.append(rows.tolist()) or images[rows]
    )
    monkeypatch.setattr(feed, "LARGE", 1)
    ranks = SimpleNamespace(rank=1, world_size=2)
    mine = feed.Feed(ranks, state, dataset, torch.device("cpu"))
    for position in range(0, 60, 6):  # the end of an epoch, and of another, in between
        mine.next_reals(position, *mine.parts[0])
    assert asked == taken[1:] and len(taken[0]) == 3
    in_memory = replace(dataset, images=np.array(dataset.images))
    feed.Feed(ranks, state, in_memory, torch.device("cpu")).next_reals(0, *mine.parts[0])
    monkeypatch.setattr(feed, "LARGE", 10**9)
    feed.Feed(ranks, state, dataset, torch.device("cpu")).next_reals(0, *mine.parts[0])
    assert len(asked) == 9, "what is in memory, or easily will be, needs no advice"


def cached(images):
    """Return, for each byte of a map, whether the system has read it."""
    of_map = np.frombuffer(map_of(images), np.uint8)
    pages = np.zeros(-(-len(of_map) // mmap.PAGESIZE), np.uint8)
    address, length = ctypes.c_void_p(of_map.ctypes.data), ctypes.c_size_t(len(of_map))
    known = pages.ctypes.data_as(ctypes.POINTER(ctypes.c_ubyte))
    assert ctypes.CDLL(None, use_errno=True).mincore(address, length, known) == 0
    bytes_of_map = np.repeat(pages & 1, mmap.PAGESIZE).astype(bool)[: len(of_map)]
    return bytes_of_map[len(of_map) - images.nbytes :]


def resident(folder):
    """Return how many KiB of maps of the files in a folder count as memory of this process."""
    with open("/proc/self/smaps") as file:
        maps = re.split(r"\n(?=[0-9a-f]+-)", file.read())
    return sum(int(re.search(r"Rss: +(\d+)", each)[1]) for each in maps if str(folder) in each)


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
