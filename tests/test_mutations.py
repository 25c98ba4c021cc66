"""Files that people hand us, damaged at random: each is read, or refused in one sentence."""

import gzip
import hashlib
import io
import json
import pickle
import random
import resource
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from gan_mpi.cli import cli
from gan_mpi.datasets import cntk_text, idx
from gan_mpi.datasets.convert import convert
from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.errors import UserError
from gan_mpi.evaluation import extractor
from gan_mpi.runs import checkpoint
from gan_mpi.runs import directory as rundir
from gan_mpi.runs.evaluations import read_evaluations
from gan_mpi.runs.segments import read_segments
from gan_mpi.runs.stats import read_stats

MOST_SECONDS = 5  # for one file
MOST_MEMORY = 1 << 20  # KiB, more than before
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.arange(6, dtype=np.uint8)


def mutated(data, numbers):
    """Return bytes with a few of them changed, cut out, doubled or set to what is on the edge."""
    changed = bytearray(data)
    for _ in range(numbers.choice((1, 1, 2, 5))):
        at = numbers.randrange(len(changed) + 1)
        length = numbers.choice((1, 1, 2, 4, 8, 50))
        way = numbers.randrange(5)
        if way == 0:
            changed[at : at + length] = numbers.randbytes(length)
        elif way == 1:
            del changed[at : at + length]
        elif way == 2:
            changed[at:at] = changed[at : at + length]
        elif way == 3:
            changed[at : at + length] = numbers.choice((b"\0", b"\xff", b"\x7f", b"9")) * length
        else:
            del changed[at:]
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def picture(kind, mode="RGB"):
    buffer = io.BytesIO()
    image = Image.fromarray(PIXELS[0]).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(buffer, kind, **({"exif": exif} if kind in ("jpeg", "png", "webp") else {}))
    return buffer.getvalue()


def cifar(protocol):
    data = np.zeros((6, 3072), np.uint8)
    batch = {b"data": data, b"labels": LABELS.tolist(), b"batch_label": b"one"}
    return pickle.dumps(batch, protocol)


def cifar_records():
    return b"".join(bytes([n]) + bytes(3072) for n in range(6))


DATA = {
    "idx": ("train-images-idx3-ubyte", lambda: idx.bytes_of(PIXELS)),
    "idx.gz": ("train-images-idx3-ubyte.gz", lambda: gzip.compress(idx.bytes_of(PIXELS))),
    "ctf": (
        cntk_text.FILES["train"],
        lambda: "".join(cntk_text.lines_of(PIXELS[:2, None], LABELS[:2])).encode(),
    ),
    "cifar.bin": ("data_batch_1.bin", cifar_records),
    "cifar 2": ("data_batch_1", lambda: cifar(2)),
    "cifar 4": ("data_batch_1", lambda: cifar(4)),
    "npz": ("train.npz", lambda: npz(images=PIXELS, labels=LABELS)),
    "medmnist": ("x.npz", lambda: npz(train_images=PIXELS, train_labels=LABELS[:, None])),
    "classes": ("classes.txt", lambda: b"cat\ndog\nemu\nfox\ngnu\nhen\n"),
    **{kind: (f"a.{kind}", lambda kind=kind: picture(kind)) for kind in ("png", "jpeg", "webp")},
    **{kind: (f"a.{kind}", lambda kind=kind: picture(kind)) for kind in ("tiff", "bmp", "gif")},
}


def looked_at(make, read, count):
    """Read `count` mutations; fail for anything but UserError, and for too much time or memory."""
    whole, numbers = make(), random.Random(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for number in range(count):
        data = mutated(whole, numbers)
        began = time.monotonic()
        try:
            read(data)
        except UserError as error:
            refused += 1
            assert str(error).isprintable(), error
        except Exception as error:
            raise AssertionError(f"mutation {number}: {error!r}") from error
        assert time.monotonic() - began < MOST_SECONDS, number
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY
    return refused


def packed_reader(kind, folder):
    """Read packed data of which one file is changed."""
    (folder / "train.npz").write_bytes(DATA["npz"][1]())
    files = convert(Source(str(folder)), folder / "out", "packed", print)
    path = next(file for file in files if file.name == kind)
    whole = path.read_bytes()

    def read(data):
        path.write_bytes(data)
        load_dataset(Source(str(folder / "out")))

    return lambda: whole, read


def data_reader(kind, folder):
    name, make = DATA[kind]
    if kind == "classes":
        (folder / "train.npz").write_bytes(DATA["npz"][1]())

    def read(data):
        (folder / name).write_bytes(data)
        load_dataset(Source(str(folder)))

    return make, read


def records_reader(kind, folder):
    stats = {"step": 1, "epoch": 0.5, "kimg": 1.0, "seconds_per_step": 0.1}
    stats |= {"images_per_second": 5.0, "time": 1.0, "updates": {"G": 1, "D": 2}}
    segment = {"id": 1, "date": "2026-01-01", "first_step": 1, "ranks": 2, "hosts": ["a"]}
    segment |= {"devices": ["cpu"]}
    segment |= {"state": "running", "versions": {"torch": "2"}, "threads": [1, 2]}
    identity = {"name": "x", "sha256": "a", "accuracy": 0.9}
    evaluation = {"step": 1, "kimg": 1.0, "data": "x", "samples": 9, "extractor": identity}
    evaluation |= {"real": 9, "floor_samples": 9, "seconds": 1.0, "floor": {"frechet": 0.1}}
    evaluation |= {"figures": {"frechet": 1.0, "kernel": 0.1, "precision": 0.5, "recall": 0.5}}
    data = {"name": "x", "source": "x", "datadir": None, "glyphs": 9, "count": 9}
    data |= {"shape": [1, 28, 28], "sha256": "a", "class_names": ["a", "b"]}
    about = {"config": {"preset": "basic", "steps": 9}, "data": data, "evaluation": {"samples": 9}}
    record, read_it = {
        "stats.jsonl": (stats, read_stats),
        "segments.jsonl": (segment, read_segments),
        "metrics.jsonl": (evaluation, read_evaluations),
        "config.json": (about, rundir.read_description),
    }[kind]
    (folder / "config.json").write_text(json.dumps(about))

    def read(changed):
        (folder / kind).write_bytes(changed)
        rundir.read_evaluation_options(folder)
        read_it(folder)
        from gan_mpi.programs.status import page, read_status

        page(read_status(folder))

    return lambda: json.dumps(record).encode() + b"\n", read


def weights_reader(kind, folder):
    path = folder / kind
    if kind == "classifier":
        (bundled,) = extractor.bundled().values()
        return bundled.read_bytes, lambda data: extractor.read_classifier(data, path)
    import torch

    content = {"version": "1", "G": {"a": torch.zeros(3)}, "config": {"steps": 3}}

    def signed(data):  # else the checksum would refuse them all
        size = len(checkpoint._comment(hashlib.sha256()))
        body = data[: -size - 2]
        whole = body + size.to_bytes(2, "little") + checkpoint._comment(hashlib.sha256(body))
        return checkpoint.unpack(whole, path)

    return lambda: checkpoint.pack(content), signed


def toml_reader(kind, folder):
    text = 'account = "a"\nnodes = 2\nmodule = ["x", "y"]\ntime = 30\nname = "it"\n'
    (folder / "gan-mpi").mkdir()
    words = ["jobscript", "--scheduler", "slurm", "--ranks-per-node", "2", "--time", "30"]
    words += ["--mpi", "mpich", "--", "train", "--run-dir", "r"]

    def read(data):
        (folder / "gan-mpi" / "jobscript.toml").write_bytes(data)
        done = CliRunner().invoke(cli, words, env={"XDG_CONFIG_HOME": str(folder)})
        if isinstance(done.exception, UserError):
            raise done.exception
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert all(line.isprintable() for line in done.output.splitlines()), done.output

    return text.encode, read


READERS = {
    **dict.fromkeys(DATA, data_reader),
    **dict.fromkeys(
        ("stats.jsonl", "segments.jsonl", "metrics.jsonl", "config.json"), records_reader
    ),
    **dict.fromkeys(("classifier", "checkpoint"), weights_reader),
    **dict.fromkeys(("packed.json", "images.npy", "labels.npy"), packed_reader),
    "jobscript.toml": toml_reader,
}
SOME = {"classifier": 5, "jobscript.toml": 20, "ctf": 30}  # of 40, where they take long


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_are_refused_in_a_sentence(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make, read = READERS[kind](kind, tmp_path)
    read(make())
    looked_at(make, read, SOME.get(kind, 40))


@pytest.mark.long
@pytest.mark.parametrize("kind", READERS)
def test_a_thousand_damaged_files_are_refused_in_a_sentence(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make, read = READERS[kind](kind, tmp_path)
    refused = looked_at(make, read, 1000)
    assert refused > 0 or kind.endswith(".jsonl")  # whose damaged lines are passed over


@pytest.mark.parametrize(("key", "value"), [("classes", 4_000_000), ("shape", [1, 1500, 1500])])
def test_a_classifier_takes_no_memory_for_what_its_header_alone_says(key, value):
    (path,) = extractor.bundled().values()
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"][key] = json.dumps(value)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="no classifier of gan-mpi"):
        extractor.read_classifier(len(text).to_bytes(8, "little") + text + data[8 + size :], path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY
