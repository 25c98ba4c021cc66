"""The data of a site: its own, or its part of the shared ones."""

from dataclasses import replace

from gan_mpi.config.values import RANK
from gan_mpi.datasets.dataset import Dataset, Source
from gan_mpi.datasets.find import has_split, load_dataset
from gan_mpi.errors import UserError
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.data import share_dataset
from gan_mpi.streams import shard


def own_source(source: Source, rank: int) -> Source | None:
    """Return where a rank's own data are, None if all have the same."""
    if RANK not in (source.datadir or ""):
        return None
    return replace(source, datadir=str(source.datadir).replace(RANK, str(rank)))


def share_site(comm: Communicator, source: Source) -> tuple[Dataset, bool]:
    """Read this rank's own data, or the shared ones, once a node, if there are none.  Collective.

    Also returns whether there is one copy a node.  Raises UserError if a site has no data, or they
    are of another shape than those of others.
    """
    mine = own_source(source, comm.rank)
    if mine is None:
        return share_dataset(comm, source)
    dataset = comm.agree(lambda: load_dataset(mine))
    shapes = comm.allgather(("x".join(map(str, dataset.shape)), dataset.source))
    comm.alike(lambda: _require_one_shape(shapes))
    return dataset, True


def _require_one_shape(shapes: list[tuple[str, str]]) -> None:
    for shape, where in shapes:
        if shape != shapes[0][0]:
            raise UserError(
                f"--datadir: {where} holds samples of {shape}, and {shapes[0][1]} of "
                f"{shapes[0][0]}; all sites train the same networks.",
                exit_code=2,
            )


def share_tests(comm: Communicator, source: Source, train: Dataset) -> Dataset | None:
    """Read this site's test images, or its part of the shared ones; None without.  Collective.

    Drawn data have none.  Raises UserError if they are of another shape than the training images.
    """
    mine = own_source(source, comm.rank) or source
    test = comm.agree(lambda: _read_tests(mine, train))
    if test is None or mine is not source:
        return test
    lo, hi = shard(len(test.images), comm.rank, comm.world_size)
    labels = None if test.labels is None else test.labels[lo:hi]
    return replace(test, images=test.images[lo:hi], labels=labels)


def _read_tests(source: Source, train: Dataset) -> Dataset | None:
    if source.datadir is None or not has_split(source, "test"):
        return None
    test = load_dataset(source, "test")
    if test.shape != train.shape:
        raise UserError(
            f"--datadir: {test.source} holds test images of {'x'.join(map(str, test.shape))}, and "
            f"the training images are of {'x'.join(map(str, train.shape))}.",
            exit_code=2,
        )
    return test
