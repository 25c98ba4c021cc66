"""From one layout of a data set to another."""

from collections.abc import Callable, Mapping
from pathlib import Path

from gan_mpi.datasets import classes, cntk_text, idx, npz
from gan_mpi.datasets.dataset import Dataset, Source
from gan_mpi.datasets.find import has_split, load_dataset
from gan_mpi.errors import UserError, reason
from gan_mpi.files import write_aside

Say = Callable[[str], None]


def read_splits(source: Source, say: Say) -> dict[str, Dataset]:
    """Return the training and, if there are any, test images; say how they were read, once.

    Raises UserError.
    """
    splits = [split for split in ("train", "test") if has_split(source, split)]
    datasets = {split: load_dataset(source, split) for split in splits or ["train"]}
    for note in dict.fromkeys(note for dataset in datasets.values() for note in dataset.notes):
        say(note)
    return datasets


def convert(source: Source, out: Path, layout: str, say: Say) -> list[Path]:
    """Write training and, if there are any, test images in another layout; return the files.

    `layout` is idx, ctf or npz.  Raises UserError if it cannot hold the data, or a file is there.
    """
    datasets = read_splits(source, say)
    written: dict[Path, bytes] = {}
    for split, dataset in datasets.items():
        for name, data in files_of(dataset, split, layout).items():
            written[out / name] = data
    write_files(written)
    return list(written)


def write_files(written: Mapping[Path, bytes]) -> None:
    """Write files into folders that may not be there yet.  Raises UserError if a file is there."""
    for path in written:
        if path.exists():
            raise UserError(f"OUT: {path} exists; give another folder.")
    for folder in dict.fromkeys(path.parent for path in written):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"OUT: cannot make {folder}: {reason(error)}.") from None
    for path, data in written.items():
        write_aside(path, data)


def files_of(dataset: Dataset, split: str, layout: str) -> dict[str, bytes]:
    """Return the files of a split by name, among them that of the names of the classes."""
    names = {classes.FILE: classes.bytes_of(dataset.classes)} if dataset.classes else {}
    return _arrays_of(dataset, split, layout) | names


def _arrays_of(dataset: Dataset, split: str, layout: str) -> dict[str, bytes]:
    images, labels = dataset.images, dataset.labels
    if layout == "npz":
        return {npz.FILES[split]: npz.bytes_of(images, labels)}
    if images.shape[1:] != (1, idx.SIDE, idx.SIDE):
        shape = "x".join(map(str, images.shape[1:]))
        raise UserError(
            f"--to: {layout} holds grey images of {idx.SIDE}x{idx.SIDE}, not {shape}; npz does.",
            exit_code=2,
        )
    if layout == "idx":
        files = {idx.IMAGES[split]: idx.bytes_of(images[:, 0])}
        if labels is not None:
            files[idx.LABELS[split]] = idx.bytes_of(labels)
        return files
    if labels is None or labels.max() >= cntk_text.WIDTHS["labels"]:
        raise UserError(
            f"--to: ctf wants a label 0..9 for every image, and {dataset.source} has "
            f"{'none' if labels is None else f'labels up to {labels.max()}'}; npz or idx will do.",
            exit_code=2,
        )
    return {cntk_text.FILES[split]: "".join(cntk_text.lines_of(images, labels)).encode()}
