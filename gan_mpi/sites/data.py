"""The data of a site: its own, or its part of the shared ones."""

from dataclasses import replace

from gan_mpi.config.values import RANK
from gan_mpi.datasets import classes
from gan_mpi.datasets.dataset import Dataset, Source, like_training, with_classes
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

    Classes are the same on all ranks: those of all sites, by their names.  Also returns whether
    there is one copy a node.  Raises UserError if a site has no data, they are of another shape
    than those of others, or only some name their classes.
    """
    mine = own_source(source, comm.rank)
    if mine is None:
        return share_dataset(comm, source)
    dataset = comm.agree(lambda: load_dataset(mine))
    shapes = comm.allgather(("x".join(map(str, dataset.shape)), dataset.source))
    comm.alike(lambda: _require_one_shape(shapes))
    has_labels = dataset.labels is not None
    named = comm.allgather((dataset.classes, has_labels, dataset.source))
    names = comm.alike(lambda: _classes_of_all(named))
    notes = (*dataset.notes, *classes.in_two_cases(names))
    return replace(with_classes(dataset, names), notes=notes), True


def _classes_of_all(named: list[tuple[tuple[str, ...], bool, str]]) -> list[str]:
    """Return the names of the classes of all sites: by name, or by number if all are numbers."""
    labelled = [(names, where) for names, has_labels, where in named if has_labels]
    without = [where for names, where in labelled if not names]
    if without and len(without) < len(labelled):
        other = next(where for names, where in labelled if names)
        raise UserError(
            f"--datadir: {other} has names of its classes, and {without[0]} has numbers, so that "
            f"nobody knows which are the same; name them there in a file {classes.FILE}, a name a "
            "line.",
            exit_code=2,
        )
    if len({names for names, _ in labelled}) == 1:
        return list(labelled[0][0])
    everything = classes.in_order({name for names, _ in labelled for name in names})
    if len(everything) > classes.MOST:
        raise UserError(
            f"--datadir: the sites have {len(everything)} classes together; at most {classes.MOST} "
            "are told apart.",
            exit_code=2,
        )
    return list(everything)


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
    test = like_training(train, load_dataset(source, "test"))
    if train.labels is None:
        return replace(test, labels=None, classes=())
    return with_classes(test, train.classes)
