"""From one layout of a data set to another."""

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path

from gan_mpi.datasets import classes, cntk_text, idx, npz, packed
from gan_mpi.datasets.dataset import Dataset, Source
from gan_mpi.datasets.find import has_split, load_dataset
from gan_mpi.errors import UserError, reason
from gan_mpi.files import aside, write_aside

Say = Callable[[str], None]


def read_splits(source: Source, say: Say) -> dict[str, Dataset]:
    """Return the training and, if there are any, test images; say how they were read, once.

    Raises UserError.
    """
    datasets = {split: load_dataset(source, split) for split in _splits(source)}
    for note in dict.fromkeys(note for dataset in datasets.values() for note in dataset.notes):
        say(note)
    return datasets


def _splits(source: Source) -> list[str]:
    return [split for split in ("train", "test") if has_split(source, split)] or ["train"]


def convert(source: Source, out: Path, layout: str, say: Say) -> list[Path]:
    """Write training and, if there are any, test images in another layout; return the files.

    `layout` is idx, ctf, npz or packed.  Raises UserError if it cannot hold the data, or a file is
    there.
    """
    if layout == "packed":
        return _pack(source, out, say)
    datasets = read_splits(source, say)
    written: dict[Path, bytes] = {}
    for split, dataset in datasets.items():
        for name, data in files_of(dataset, split, layout).items():
            written[out / name] = data
    write_files(written)
    return list(written)


def _pack(source: Source, out: Path, say: Say) -> list[Path]:
    """Write training and test images as maps, of which no more is in memory than must be."""
    splits = _splits(source)
    files = {split: (out / split / "images.npy", out / split / "labels.npy") for split in splits}
    _make_room([out / packed.FILE, *(path for pair in files.values() for path in pair)])
    written, about = [], {}
    notes: list[str] = []
    with ExitStack() as stack:  # all of them or none
        for split, (images, labels) in files.items():
            file = stack.enter_context(aside(images))
            packed.begin(file)
            dataset = load_dataset(source, split, file)
            packed.finish(file, dataset.images)
            about[split] = packed.description(dataset.images, dataset.labels, dataset.sha256)
            written.append(images)
            if dataset.labels is not None:
                file = stack.enter_context(aside(labels))
                packed.begin(file)
                packed.finish(file, dataset.labels)
                written.append(labels)
            notes += dataset.notes
    for note in dict.fromkeys(notes):
        say(note)
    write_aside(out / packed.FILE, packed.bytes_of(about, dataset.classes))
    return [*written, out / packed.FILE]


def write_files(written: Mapping[Path, bytes]) -> None:
    """Write files into folders that may not be there yet.  Raises UserError if a file is there."""
    _make_room(written)
    for path, data in written.items():
        write_aside(path, data)


def _make_room(paths: Collection[Path]) -> None:
    """Make the folders of files that are not there yet.  Raises UserError if one is."""
    for path in paths:
        if path.exists():
            raise UserError(f"OUT: {path} exists; give another folder.")
    for folder in dict.fromkeys(path.parent for path in paths):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"OUT: cannot make {folder}: {reason(error)}.") from None


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
