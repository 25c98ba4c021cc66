"""Getting the public data sets: from one of several mirrors, resumed, checked, whole or absent."""

import fcntl
import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_mpi.errors import UserError, reason

LARGEST = 1 << 30  # bytes of a file
PIECE = 1 << 18  # bytes read at once
TIMEOUT = 30  # seconds without an answer
# Told the file's name, the bytes there are, and the bytes of the whole or None.
Report = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Collection:
    """The files of a data set, with the SHA-256 of what is in them, and where to get them.

    The sum is that of the decompressed file for .gz, since mirrors compress anew, and of the
    archive for .tar.gz, which is unpacked.
    """

    files: dict[str, str]
    mirrors: tuple[str, ...]


COLLECTIONS = {
    "mnist": Collection(
        {
            "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738"
            "ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5"
            "333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77"
            "db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351"
            "222c34898ecbeaf847f06e48f7ec33f2",
        },
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
    "fashion-mnist": Collection(
        {
            "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f8388776"
            "8d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec29"
            "4ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe0"
            "87ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494"
            "c5af83dab82d92729df917d7dec38c34",
        },
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
    ),
    "cifar10": Collection(
        {
            "cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f3"
            "9262c83c16fe9348329d7fe0b5c001ce"
        },
        (
            "https://www.cs.toronto.edu/~kriz/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
    ),
}


def download(
    name: str, folder: Path, mirrors: tuple[str, ...] | None, report: Report
) -> list[Path]:
    """Get what `folder` lacks of a data set; return its files.

    Several processes may do so at once: one gets it, the others wait and find it.  Raises
    UserError, with what each mirror answered.
    """
    collection = COLLECTIONS[name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--datadir: cannot make {folder}: {reason(error)}.") from None
    files = []
    with _alone(folder):
        for file, sha256 in collection.files.items():
            target = folder / file
            is_archive = file.endswith(".tar.gz")
            whole = folder / "cifar-10-batches-py" if is_archive else target
            if not whole.exists():
                part = _fetch(file, sha256, folder, mirrors or collection.mirrors, report)
                _unpack(part, whole) if is_archive else part.rename(target)
            files.append(whole)
    return files


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time work on a folder.  Raises UserError if it cannot be written."""
    lock = folder / ".download.lock"
    try:
        with _locked(lock):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {reason(error)}.") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock on the file that has this name now, and not on one unlinked meanwhile."""
    while True:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(path, file.fileno()):
                yield
                return


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class _MirrorFailed(Exception):
    """A mirror gave no whole file, or a wrong one; the message says why."""


class _WrongContent(_MirrorFailed):
    """What is there now has another SHA-256; it was removed."""


def _fetch(file: str, sha256: str, folder: Path, mirrors: tuple[str, ...], report: Report) -> Path:
    """Return the whole and checked file, beside its place."""
    part, failures = folder / f".{file}.part", []

    def progress(done: int, total: int | None) -> None:
        report(file, done, total)

    for mirror in mirrors:
        url = mirror.rstrip("/") + "/" + file
        was_begun = part.exists()
        try:
            try:
                return _get_right(url, part, sha256, progress)
            except _WrongContent:
                if not was_begun:
                    raise
            return _get_right(url, part, sha256, progress)  # all of it from one mirror
        except _MirrorFailed as failure:
            failures.append(f"{url}: {failure}")
    raise UserError(f"cannot get {file}: {'; '.join(failures)}.")


def _get_right(
    url: str, part: Path, sha256: str, report: Callable[[int, int | None], None]
) -> Path:
    """Complete a partial file and return it; remove it if its content is wrong."""
    _continue(url, part, report)
    digest = _content_digest(part)
    if digest != sha256:
        part.unlink()
        raise _WrongContent(f"a file with the SHA-256 {digest}, not {sha256}")
    return part


def _continue(url: str, part: Path, report: Callable[[int, int | None], None]) -> None:
    """Get what a partial file lacks, or all of it from a server that cannot go on."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # nothing is missing
            return
        raise _MirrorFailed(error.reason) from None
    except (OSError, http.client.HTTPException) as error:
        raise _MirrorFailed(getattr(error, "reason", error)) from None
    with answer:
        resumed = answer.status == 206
        have = have if resumed else 0
        total = _total(have, answer.headers.get("Content-Length"))
        with part.open("ab" if resumed else "wb") as file:
            for piece in _pieces(answer):
                file.write(piece)
                have += len(piece)
                _require_size(have)
                report(have, total)
    if total is not None and have < total:
        raise _MirrorFailed(f"the connection broke after {have} of {total} bytes")


def _total(have: int, length: str | None) -> int | None:
    """Return the size that a file will have, None where the mirror does not say."""
    if length is None:
        return None
    if not (length.isascii() and length.isdecimal()):
        raise _MirrorFailed(f"a Content-Length of {length[:20]!r}")
    _require_size(total := have + int(length[:20]))
    return total


def _require_size(size: int) -> None:
    if size > LARGEST:
        raise _MirrorFailed(f"more than the {LARGEST} bytes that any of these files has")


def _pieces(answer: Any) -> Iterator[bytes]:
    while True:
        try:
            piece = answer.read(PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise _MirrorFailed(f"the connection broke: {error}") from None
        if not piece:
            return
        yield piece


def _content_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, decompressed unless it is an archive."""
    digest = hashlib.sha256()
    compressed = not path.name.endswith(".tar.gz.part")
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return "of a damaged file"
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """Put the batches of an archive into a folder, whole or not at all."""
    aside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            source = tar.extractfile(member)
            if source is not None and "batch" in name:
                with source, (aside / name).open("wb") as file:
                    shutil.copyfileobj(source, file)
    aside.rename(folder)
    archive.unlink()
