"""The data, read once a node and shared by its ranks."""

import platform

import numpy as np

from gan_mpi.datasets.dataset import Dataset, Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.errors import UserError
from gan_mpi.mpi.comm import Communicator


def share_dataset(comm: Communicator, source: Source, split: str = "train") -> tuple[Dataset, bool]:
    """Read the data, train or test, once a node and give all its ranks one copy.  Collective.

    Also returns whether it is one copy.  Raises UserError if it cannot be read, or if two
    nodes read different data.
    """
    mine = comm.on_each_node(lambda: load_dataset(source, split))
    about = []
    if mine is not None:
        about = [(mine.name, mine.source, mine.sha256, platform.node())]
    read = [found for node in comm.allgather(about) for found in node]
    comm.alike(lambda: _require_one(read))
    name, origin, sha256, _ = read[0]
    images, shared = comm.share_on_node(None if mine is None else mine.images)
    no_labels = np.empty(0, dtype=np.uint8)
    given = mine.labels if mine is not None and mine.labels is not None else no_labels
    shared_labels, _ = comm.share_on_node(given if mine is not None else None)
    labels = shared_labels if len(shared_labels) else None
    return Dataset(name, origin, images, labels, sha256), shared


def _require_one(read: list[tuple[str, str, str, str]]) -> None:
    """Raise UserError unless name, source, SHA-256 and host of every node tell of one data set."""
    _, origin, sha256, first = read[0]
    for _, _, other, host in read:
        if other != sha256:
            raise UserError(f"--datadir: {host} reads other data than {first} from {origin}.")
