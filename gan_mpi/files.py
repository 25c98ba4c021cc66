"""Files written whole or not at all, and read no further than they promise."""

import errno
import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from gan_mpi.clock import HERE
from gan_mpi.errors import Refused, UserError, reason

GZIP = b"\x1f\x8b"  # how such a file begins, whatever its name ends with
AT_ONCE = 1 << 20  # bytes
NewFile = Callable[[], IO[bytes]]  # makes a file, or returns the one that it has made


def header_in_order(data: bytes) -> bytes:
    """Return a safetensors file with what its header says of it in order of name.

    The library puts that in another order each time, so that one content has many checksums.
    """
    import json

    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + data[end:]


_guards: dict[Path, Callable[[], None]] = {}  # by folder


def guard(folder: Path, check: Callable[[], None]) -> None:
    """Call `check` before each change of a file in a folder, from now on; it may raise."""
    _guards[folder.resolve()] = check


def unguard(folder: Path) -> None:
    """Change files in a folder unasked again."""
    _guards.pop(folder.resolve(), None)


def _ask_guard(folder: Path) -> None:
    if _guards and (check := _guards.get(folder.resolve())):
        check()


_full: list[str] = []  # how names begin of files for which there is no room, once each


def fill_for(name: str) -> None:
    """Let the next file whose name begins so find its file system full, to rehearse that."""
    _full.append(name)


def _find_room(path: Path) -> None:
    for name in _full:
        if path.name.startswith(name):
            _full.remove(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_waiting: dict[Path, dict[Path, bytes]] = {}  # lines that wait for room, by folder


def keep_lines(folder: Path) -> None:
    """Keep lines for files in a folder, from now on, while they cannot be appended."""
    _waiting.setdefault(folder.resolve(), {})


def write_kept_lines(folder: Path) -> None:
    """Append what was kept in a folder, and keep no more.  Raises Refused."""
    for path, lines in _waiting.pop(folder.resolve(), {}).items():
        if lines:
            _append(path, lines)


def write_aside(path: Path, data: bytes) -> None:
    """Write a file beside its place, sync it, and rename it; several processes may do so.

    Raises Refused, naming the file, if the operating system refuses.
    """
    write_by(path, lambda file: file.write(data))


def write_by(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Do what write_aside does, with what `write` puts into the file."""
    aside = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}.tmp")
    try:
        try:
            with aside.open("wb") as file:
                write(file)
                _find_room(path)
                file.flush()
                os.fsync(file.fileno())
            _ask_guard(path.parent)
            os.replace(aside, path)
        except BaseException:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise Refused(f"cannot write {path}: {reason(error)}.") from None
    HERE.move()


def write_output(path: Path, data: bytes, option: str) -> None:
    """Write a file as write_aside, in a folder made for it.

    Raises UserError, naming the option, such as --out, by which a user named the file.
    """
    make_place(path, option)
    write_aside(path, data)


def make_place(path: Path, option: str) -> None:
    """Make the folder of a file that an option names.  Raises UserError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option}: cannot make {path.parent}: {reason(error)}.") from None
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{option}: cannot write in {path.parent}: Permission denied.")


def sync_folder(folder: Path) -> None:
    """Let what was renamed in a folder outlive a failure of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_folder() -> Path | None:
    """Return where this user's cache of gan-mpi is, None for a user without a home."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "gan-mpi" if os.path.isabs(home) else None


def append_line(path: Path, text: str) -> None:
    """Append a line in one write, on a line of its own after a crash too.

    Raises Refused, unless lines are kept in this folder: then it goes with the next one.
    """
    kept = _waiting.get(path.parent.resolve(), {})
    lines = kept.pop(path, b"") + text.encode(errors="backslashreplace") + b"\n"
    try:
        _append(path, lines)
    except Refused:
        if path.parent.resolve() not in _waiting:
            raise
        kept[path] = lines
    HERE.move()


def _append(path: Path, lines: bytes) -> None:
    """Append lines, all of them or none.  Raises Refused."""
    _ask_guard(path.parent)
    try:
        with path.open("ab+", buffering=0) as file:
            before = file.tell()
            if before:
                file.seek(-1, os.SEEK_END)
                lines = b"\n" * (file.read(1) != b"\n") + lines
            try:
                while lines:
                    lines = lines[file.write(lines) :]
            except OSError:
                with suppress(OSError):
                    file.truncate(before)
                raise
    except OSError as error:
        raise Refused(f"cannot write {path}: {reason(error)}.") from None


def remove(path: Path) -> None:
    """Remove a file, if it is there.  Raises Refused."""
    _ask_guard(path.parent)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise Refused(f"cannot remove {path}: {reason(error)}.") from None


def sweep(folder: Path) -> None:
    """Remove what a killed process was writing aside."""
    _ask_guard(folder)
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, gzip or plain, to read its content.

    Raises UserError, naming the file, if it cannot be read or unpacked.
    """
    try:
        with path.open("rb") as file:
            is_gzip = file.read(len(GZIP)) == GZIP
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if is_gzip else file  # type: ignore[misc]
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path} is truncated or damaged: {error}.") from None
    except OSError as error:  # gzip.BadGzipFile is one, without a strerror
        why = f"it is damaged: {error}" if error.errno is None else reason(error)
        raise UserError(f"cannot read {path}: {why}.") from None


def read_up_to(file: IO[bytes], count: int) -> bytearray:
    """Return so many bytes, or all that there are if they are fewer.

    A header may promise more than there is; memory is taken for what was read alone.
    """
    data = bytearray()
    while len(data) < count:
        part = file.read(min(AT_ONCE, count - len(data)))
        if not part:
            break
        data += part
    return data
