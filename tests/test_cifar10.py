"""CIFAR-10 in both layouts; Python's pickles are read without running anything in them."""

import os
import pickle

import numpy as np
import pytest

from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.errors import UserError

RECORD = 3073


def sentence(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def write_batch(path, count=3):
    """Write CIFAR-10 records: labels 0, 1, ..., each image full of its number."""
    records = np.zeros((count, RECORD), np.uint8)
    records[:, 0] = np.arange(count) % 10
    records[:, 1:] = np.arange(count)[:, None]
    path.write_bytes(records.tobytes())


def write_python_batch(path, data=None, labels=(3, 9), protocol=2):
    if data is None:
        data = np.arange(2 * 3072, dtype=np.uint64).reshape(2, 3072).astype(np.uint8)
    path.write_bytes(pickle.dumps({b"data": data, b"labels": list(labels)}, protocol=protocol))
    return data


@pytest.fixture
def cifar(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for number in (1, 2):
        write_batch(folder / f"data_batch_{number}.bin", number + 1)
    write_batch(folder / "test_batch.bin")
    return folder


def test_cifar_binary_batches_are_read_in_order_from_the_folder_or_its_parent(cifar):
    for folder in (cifar, cifar.parent):
        found = load_dataset(Source(str(folder)))
        assert found.images.shape == (5, 3, 32, 32)
        assert found.images[:, 0, 0, 0].tolist() == [0, 1, 0, 1, 2]
        assert found.labels.tolist() == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar_python_batches_are_read(tmp_path, protocol):
    data = write_python_batch(tmp_path / "data_batch_1", protocol=protocol)
    found = load_dataset(Source(str(tmp_path)))
    assert np.array_equal(found.images.reshape(2, 3072), data)
    assert found.labels.tolist() == [3, 9]


def test_a_batch_as_python_2_wrote_it_is_read(tmp_path):
    """By hand, opcode by opcode: what cifar-10-batches-py holds, with one image."""
    raw = bytes(i % 256 for i in range(3072))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01(K\x01M\x00\x0ctcnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ"
        b"\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00" + raw + b"tb"
    )
    head = b"\x80\x02}(U\x04data" + array + b"U\x06labels](K\x05eU\x0bbatch_labelU\x01xu."
    (tmp_path / "data_batch_1").write_bytes(head)
    found = load_dataset(Source(str(tmp_path)))
    assert found.images.tobytes() == raw
    assert found.labels.tolist() == [5]


class Malicious:
    """Pickles as a call that would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_malicious_batch_is_refused_and_runs_nothing(tmp_path):
    batch, mark = tmp_path / "data_batch_1", tmp_path / "mark"
    batch.write_bytes(pickle.dumps({"data": Malicious(mark)}, protocol=2))
    message = sentence(load_dataset, Source(str(tmp_path)))
    assert f"{batch} is no batch of CIFAR-10: it asks to run posix.system." == message
    assert not mark.exists()


def test_wrong_cifar_files_are_named(cifar, tmp_path):
    batch = cifar / "data_batch_2.bin"
    os.truncate(batch, 2 * RECORD + 5)
    source = Source(str(cifar))
    assert f"{batch} is truncated: 6151 bytes are not" in sentence(load_dataset, source)
    write_batch(batch)
    batch.write_bytes(b"\x0b" + batch.read_bytes()[1:])
    assert "holds the label 11, not 0 to 9" in sentence(load_dataset, source)
    for file in cifar.iterdir():
        file.unlink()
    python = cifar / "data_batch_1"
    for write, said in (
        (lambda: write_python_batch(python, labels=[1]), "1 labels for 2 images"),
        (
            lambda: write_python_batch(python, labels=[1, 77]),
            "labels that are not 0 to",
        ),
        (
            lambda: write_python_batch(python, np.zeros((2, 9), np.uint8)),
            "shape (2, 9)",
        ),
        (lambda: write_python_batch(python, np.zeros((2, 3072))), "not unsigned bytes"),
        (lambda: python.write_bytes(pickle.dumps([1])), "lacks data or labels"),
        (lambda: python.write_bytes(b"\x80\x02}("), "is truncated or damaged"),
        (lambda: python.write_bytes(b"\x80\x02}r\x63\0\0\0."), "it keeps value 99 of 2"),
        (lambda: python.write_bytes(b"\x80\x02)q\0h\0\x86."), "lacks data or labels"),
        (lambda: python.write_bytes(b"\x80\x02N\x85q\0h\0\x86."), "it uses a tuple twice"),
        (lambda: python.write_bytes(b"\x80\x02}2."), "it holds DUP, as no batch does"),
    ):
        write()
        message = sentence(load_dataset, source)
        assert said in message and str(python) in message


def test_cifar_on_disk(cifar10):
    found = load_dataset(Source(str(cifar10)))
    assert found.images.shape == (4000, 3, 32, 32)
    assert 350 < np.bincount(found.labels).min() < np.bincount(found.labels).max() < 450
