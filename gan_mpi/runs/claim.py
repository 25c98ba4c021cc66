"""Who holds a run directory: one start at a time, on any host that sees its files.

A claim is a file with a number that grows from one start to the next; whoever makes the file of
the next number holds the run.  It falls when its process is gone, where that can be seen, or when
its counter stands still for STILL seconds by the clock of who would take it.  A holder looks for
its file before it changes anything, so that one that was suspended, and woken later, ends instead.
"""

import errno
import json
import os
import platform
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self, TypedDict

from gan_mpi import files
from gan_mpi.errors import WRONG, Refused, UserError, reason
from gan_mpi.runs.directory import make_named
from gan_mpi.runs.log import warn
from gan_mpi.runs.records import fits

NAME = re.compile(r"claim-(\d{6,18})\.json")
BEAT = 5.0  # seconds between the beats of a holder's counter
STILL = 45.0  # seconds without a beat after which a claim has fallen
STOPPED = 75  # exit code
PAUSE = 0.5  # seconds between looks at another's counter
BEGIN = '{"beat": "'  # of the file; the digits of the counter follow


class Holder(TypedDict):
    """What a claim's file says."""

    beat: str
    free: bool
    host: str
    process: int
    since: str  # the process's start, in its machine's clock ticks
    machine: str  # which processes can be seen from where
    job: str  # the scheduler's number of the job, "" without one


class Claim:
    """The hold of this process on one run directory, none until it is taken."""

    def __init__(self, job: str = "", gives_up: Callable[[], bool] = lambda: False) -> None:
        """`job` is the scheduler's number of this job; `gives_up` ends a wait for another start."""
        self.number = 0
        self._job, self._gives_up = job, gives_up
        self._path: Path | None = None
        self._folder: Path | None = None
        self._made_folder = False
        self._lost = ""  # why the hold was lost, as a sentence
        self._done = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.release()
        if kind is not None:
            self._leave_nothing()

    def take(self, run_dir: Path, option: str = "--run-dir", fallen: int = 0) -> None:
        """Hold a run directory, made if it is not there; nothing happens if it is held already.

        Waits for an older start of the same job; the claim of number `fallen` is known to have
        fallen.  Raises UserError if another start holds it, or if it is none; `option` is how a
        user named it.
        """
        if self._path is not None:
            return
        self._done.clear()
        self._made_folder = not run_dir.exists()
        self._folder = make_named(run_dir, option)
        try:
            while not self._try(run_dir, fallen):
                pass
            files.guard(run_dir, self.check)
            threading.Thread(target=self._beat, daemon=True).start()
        except OSError as error:
            raise UserError(f"cannot hold {run_dir}: {reason(error)}.") from None

    def check(self) -> None:
        """Raise UserError if another start has taken the run since, Refused if it is not there."""
        if self._lost:
            raise UserError(self._lost)
        if self._path is None:
            return
        folder = self._path.parent
        try:
            with self._path.open("rb"):  # which asks the server, where stat may not
                return
        except FileNotFoundError:
            if not any(number > self.number for number in _claims(folder)):  # mounted again perhaps
                raise Refused(f"{folder} is not there any more, or empty.") from None
        except OSError as error:
            raise Refused(f"cannot reach {folder}: {reason(error)}.") from None
        self._path = None
        self._lost = (
            f"another start has taken {folder} while this one stood still; this one ends, and what "
            "it did since its last checkpoint is not kept."
        )
        raise UserError(self._lost)

    def release(self) -> None:
        """Let others take the run; nothing happens if it is not held."""
        path, self._path, self._lost = self._path, None, ""
        if self._folder is not None:
            files.unguard(self._folder)
        if path is None:
            return
        self._done.set()
        holder = _read(path)
        if holder is not None:
            with suppress(UserError):
                files.write_aside(path, json.dumps({**holder, "free": True}).encode())

    def _try(self, run_dir: Path, fallen: int) -> bool:
        """Make the claim of the next number, once that of the last is free or fallen."""
        claims = _claims(run_dir)
        last = max(claims, default=0)
        if last and last != fallen:
            self._wait_for(claims[last])
        path = run_dir / _name(last + 1)
        if not _make(path, self._line()):
            return False
        for older in claims.values():
            older.unlink(missing_ok=True)
        self.number, self._path = last + 1, path
        return True

    def _line(self) -> str:
        holder: Holder = {
            "beat": f"{0:09d}",
            "free": False,
            "host": platform.node(),
            "process": os.getpid(),
            "since": _start_of(os.getpid()),
            "machine": _machine(),
            "job": self._job,
        }
        return json.dumps(holder)

    def _wait_for(self, path: Path) -> None:
        """Return once a claim is free, gone or fallen.  Raises UserError if it is held."""
        seen, since, said = None, time.monotonic(), False
        while (holder := _read(path)) is not None and not holder["free"] and not _is_gone(holder):
            if seen is None or holder["beat"] != seen:
                if seen is not None and not (self._job and holder["job"] == self._job):
                    job = f", job {holder['job']}" if holder["job"] else ""
                    raise UserError(
                        f"{path.parent} is being trained by another start (process "
                        f"{holder['process']} on {holder['host']}{job}); wait for its end, or name "
                        "another --run-dir.",
                        exit_code=WRONG,
                    )
                if seen is not None and not said:
                    warn(f"{path.parent} is held by an older start of this job; waits for its end")
                    said = True
                seen, since = holder["beat"], time.monotonic()
            elif time.monotonic() - since > STILL:
                return
            if self._gives_up():
                raise UserError(
                    f"stopped while {path.parent} was still held by an older start of this job.",
                    exit_code=STOPPED,
                )
            time.sleep(PAUSE)

    def _beat(self) -> None:
        """Count on in the claim's file, until it is released or lost."""
        count = 0
        while not self._done.wait(BEAT):
            path, count = self._path, count + 1
            if path is None:
                return
            with suppress(OSError):
                descriptor = os.open(path, os.O_WRONLY)
                try:
                    os.pwrite(descriptor, b"%09d" % count, len(BEGIN))
                finally:
                    os.close(descriptor)

    def _leave_nothing(self) -> None:
        """Remove a folder that was made for a start that then failed, if its claim is all there is.

        The claim of another, who took the folder since, is another's.
        """
        if not self._made_folder or self._folder is None:
            return
        with suppress(OSError):
            inside = list(self._folder.iterdir())
            if [path.name for path in inside] == [_name(self.number)]:
                inside[0].unlink()
                self._folder.rmdir()


def is_left(run_dir: Path) -> bool:
    """Return whether the process that holds a run is gone from this machine, killed say.

    Of one on another machine that cannot be told, and it is not said.
    """
    claims = _claims(run_dir)
    holder = _read(claims[max(claims)]) if claims else None
    return holder is not None and not holder["free"] and _is_gone(holder)


def _name(number: int) -> str:
    return f"claim-{number:06d}.json"


def _claims(run_dir: Path) -> dict[int, Path]:
    """Return the claims' files in a run directory, by number; none if it is not there."""
    matches = ((NAME.fullmatch(path.name), path) for path in run_dir.glob("claim-*.json"))
    return {int(match[1]): path for match, path in matches if match}


def _make(path: Path, line: str) -> bool:
    """Make a file with its content, whole at once; return whether it was not there."""
    aside = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.tmp")
    aside.write_text(line, encoding="utf-8")
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        return _make_without_links(path, line)
    finally:
        aside.unlink(missing_ok=True)
    return True


def _make_without_links(path: Path, line: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(line)
    except FileExistsError:
        return False
    return True


def _read(path: Path) -> Holder | None:
    """Return what a claim says, None if it is gone; one that cannot be read says that it stands."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    with suppress(ValueError, RecursionError):
        content = json.loads(text)
        if fits(content, Holder):
            return content
    return Holder(beat=text[:80], free=False, host="?", process=0, since="", machine="", job="")


def _is_gone(holder: Holder) -> bool:
    """Return whether a process that would be seen from here is not there any more."""
    return holder["machine"] == _machine() and _start_of(holder["process"]) != holder["since"]


def _machine() -> str:
    """Return what names the processes that can be seen from here: since a boot, in a container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_of(process: int) -> str:
    """Return when a process began, "" if it is not there (or waits to be taken note of)."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if after_name[0] in ("Z", "X") else after_name[19]
