"""What rank 0 says: lines on the terminal and in log.txt, and a progress bar on a terminal."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gan_mpi.errors import UserError, printable, reason
from gan_mpi.files import append_line
from gan_mpi.mpi import launcher


def say(text: str) -> None:
    """Print a line, in one write.

    A reader that has gone away is no fault.  Raises UserError if it cannot be written otherwise.
    """
    try:
        sys.stdout.write(printable(text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _say_no_more()
    except OSError as error:
        _say_no_more()
        raise UserError(f"cannot write to standard output: {reason(error)}.") from None


def warn(text: str) -> None:
    """Print a warning to stderr."""
    with suppress(OSError):
        sys.stderr.write(f"Warning: {printable(text)}\n")


def note(text: str) -> None:
    """Print a line that is no result to stderr."""
    with suppress(OSError):
        sys.stderr.write(f"Note: {printable(text)}\n")


def _say_no_more() -> None:
    """Let what Python still holds for standard output, and what follows, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # type: ignore[union-attr]


class Log:
    """Lines for the user.  On the other ranks, `speaks` is false and nothing happens."""

    def __init__(self, speaks: bool, quiet: bool = False) -> None:
        self.speaks = speaks
        self.quiet = quiet
        self.path: Path | None = None
        self._before_file: list[str] = []
        self._bar: Any = None

    def line(self, text: str) -> None:
        """Print a line, unless quiet, and keep it in log.txt."""
        if self.speaks:
            self._record(text)
            if not self.quiet:
                self._show(text)

    def lines(self, texts: Iterable[str]) -> None:
        """Print several lines as line() does."""
        for text in texts:
            self.line(text)

    def warning(self, text: str) -> None:
        """Print a warning to stderr, quiet or not, and keep it in log.txt."""
        if self.speaks:
            self._record(f"Warning: {text}")
            warn(text)

    def warnings(self, texts: Iterable[str]) -> None:
        """Print several warnings as warning() does."""
        for text in texts:
            self.warning(text)

    def attach(self, path: Path) -> None:
        """Append to this file from now on, starting with the lines before it.  Raises UserError."""
        self.path = path
        for text in self._before_file:
            self._record(text)
        self._before_file.clear()

    def _record(self, text: str) -> None:
        if self.path is None:
            self._before_file.append(text)
            return
        append_line(self.path, printable(text))

    def _show(self, text: str) -> None:
        """Print a line; training goes on with log.txt if nobody can read it any more."""
        try:
            if self._bar is not None:
                shown = printable(text)
                self._bar.console.print(shown, markup=False, highlight=False, soft_wrap=True)
            else:
                sys.stdout.write(printable(text) + "\n")
                sys.stdout.flush()
        except OSError as error:
            self.quiet = True
            _say_no_more()
            self.warning(f"standard output: {reason(error)}; what is said goes to log.txt alone")

    @contextmanager
    def progress(self, done: int, total: int) -> Iterator["ProgressBar"]:
        """Show a bar of steps below the lines, on a terminal.

        Not under mpiexec: Open MPI's gives every rank a terminal of its own, whatever reads it.
        """
        on_terminal = sys.stdout.isatty() and launcher.rank() is None
        if not self.speaks or self.quiet or not on_terminal:
            yield ProgressBar(None, None)
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TimeRemainingColumn,
        )

        columns = (BarColumn(), MofNCompleteColumn(), "steps", TimeRemainingColumn())
        self._bar = bar = Progress(*columns, transient=True)
        task = bar.add_task("", completed=done, total=total)
        try:
            with suppress(OSError):
                bar.start()
            yield ProgressBar(bar, task)
        finally:
            self._bar = None
            try:
                bar.stop()
            except OSError:  # the terminal is gone, and the run goes on
                _say_no_more()


class ProgressBar:
    """A bar of rich's, or nothing."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar = bar
        self._task = task

    def advance_to(self, step: int) -> None:
        """Show that `step` steps are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
