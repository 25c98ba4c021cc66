"""The data, read once a node and shared by its ranks."""

import platform
from dataclasses import replace

import numpy as np

from gan_mpi.datasets.dataset import Dataset, Source, like_training
from gan_mpi.datasets.find import open_dataset
from gan_mpi.datasets.packed import Packed, require_checked
from gan_mpi.errors import UserError
from gan_mpi.mpi.comm import Communicator
from gan_mpi.runs.log import note

LARGE = 10**9  # bytes, which take some seconds to check


def share_dataset(comm: Communicator, source: Source, split: str = "train") -> tuple[Dataset, bool]:
    """Read the data, train or test, once a node and give all its ranks one copy.  Collective.

    Packed ones are mapped by every rank.  Also returns whether it is one copy.  Raises UserError
    if it cannot be read, or if two nodes read different data.
    """
    mine = comm.on_each_node(lambda: open_dataset(source, split))
    about = []
    if mine is not None:
        known = replace(mine, images=np.empty(0), labels=None)  # all but the arrays
        about = [(known, platform.node())]
    read = [found for node in comm.allgather(about) for found in node]
    comm.alike(lambda: _require_one(read))
    packed = [found.packed for found, _ in read if found.packed is not None]
    if len(packed) == len(read):
        return _map(comm, read[0][0], packed[0]), True
    if packed:  # on some nodes
        comm.agree(lambda: None if mine is None else _require_checked(mine))
    images, shared = comm.share_on_node(None if mine is None else mine.images)
    no_labels = np.empty(0, dtype=np.uint8)
    given = mine.labels if mine is not None and mine.labels is not None else no_labels
    shared_labels, _ = comm.share_on_node(given if mine is not None else None)
    labels = shared_labels if len(shared_labels) else None
    return replace(read[0][0], images=images, labels=labels), shared


def _require_checked(dataset: Dataset) -> None:
    if dataset.packed is not None:
        require_checked(dataset.packed)


def _map(comm: Communicator, known: Dataset, packed: Packed) -> Dataset:
    """Map a packed data set, checked once by all ranks of a node together.  Collective."""
    images, labels = comm.agree(packed.arrays)
    memory = packed.memory() if comm.local_rank == 0 else None
    is_checked = comm.node_allgather(memory is not None and memory.is_there())[0]
    if comm.is_root and not is_checked and packed.size >= LARGE:
        note(f"checking the {packed.size / 1e9:.0f} GB in {packed.folder}; later starts need not")

    def check() -> None:
        if not is_checked:
            packed.check(comm.local_rank, comm.local_size)

    comm.agree(check)
    if memory is not None and not is_checked:
        memory.keep()
    return replace(known, images=images, labels=labels)


def share_tests(comm: Communicator, source: Source, train: Dataset) -> Dataset:
    """Read the test images as `share_dataset`, which must be like the training images.  Collective.

    Raises UserError if there are none, they cannot be read, or they have another shape.
    """
    test, _ = share_dataset(comm, source, "test")
    return comm.alike(lambda: like_training(train, test))


def say_notes(comm: Communicator, dataset: Dataset) -> None:
    """Print, on root, what people should know of how data were read."""
    for each in dataset.notes if comm.is_root else ():
        note(each)


def _require_one(read: list[tuple[Dataset, str]]) -> None:
    """Raise UserError unless what every node read, without its arrays, is of one data set."""
    first, its_host = read[0]
    for other, host in read:
        if (other.sha256, other.classes) != (first.sha256, first.classes):
            raise UserError(
                f"--datadir: {host} reads other data than {its_host} from {first.source}."
            )
