"""From one layout of a data set to another."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gan_mpi.datasets import classes, cntk_text, idx, npz, packed
from gan_mpi.datasets.dataset import Dataset, Source
from gan_mpi.datasets.find import has_split, load_dataset
from gan_mpi.errors import UserError, reason
from gan_mpi.files import sync_folder, write_aside

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
    """Write training and test images as maps, of which no more is in memory than must be.

    They are written where no reader looks, on the disk of OUT, and moved when all are there.
    """
    splits = _splits(source)
    names = [f"{split}/{kind}.npy" for split in splits for kind in ("images", "labels")]
    names.append(packed.FILE)  # the last, without which the others are nothing
    _require_absent(out / name for name in names)
    real = out.resolve()
    home = real if real.is_dir() else real.parent
    beside = home / f".{real.name}.{os.uname().nodename}-{os.getpid()}.tmp"
    about, datasets = {}, []
    moved: list[Path] = []
    try:
        for split in splits:
            with packed.NewArray(beside / split / "images.npy") as images:
                dataset = load_dataset(source, split, images.open)
                images.finish(dataset.images)
            if dataset.labels is not None:
                with packed.NewArray(beside / split / "labels.npy") as labels:
                    labels.finish(dataset.labels)
            about[split] = packed.description(dataset.images, dataset.labels, dataset.sha256)
            datasets.append(dataset)
        named = next((dataset.classes for dataset in datasets if dataset.classes), ())
        with (beside / packed.FILE).open("wb") as file:
            file.write(packed.bytes_of(about, named))
            file.flush()
            os.fsync(file.fileno())
        written = [name for name in names if (beside / name).exists()]
        _require_absent(out / name for name in names)  # still
        for name in written:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(beside / name, out / name)
            moved.append(out / name)
            sync_folder((out / name).parent)
    except OSError as error:
        for path in moved:
            path.unlink(missing_ok=True)
        raise UserError(f"OUT: cannot write {out}: {reason(error)}.") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for note in dict.fromkeys(note for dataset in datasets for note in dataset.notes):
        say(note)
    return [out / name for name in written]


def write_files(written: Mapping[Path, bytes]) -> None:
    """Write files into folders that may not be there yet.  Raises UserError if a file is there."""
    _require_absent(written)
    for folder in dict.fromkeys(path.parent for path in written):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"OUT: cannot make {folder}: {reason(error)}.") from None
    for path, data in written.items():
        write_aside(path, data)


def _require_absent(paths: Iterable[Path]) -> None:
    """Raise UserError if a file is there."""
    for path in paths:
        if path.exists():
            raise UserError(f"OUT: {path} exists; give another folder.")


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
