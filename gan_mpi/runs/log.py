"""What rank 0 says: lines on the terminal and in log.txt, and a progress bar on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gan_mpi.files import append_line
from gan_mpi.mpi import launcher


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

    def warning(self, text: str) -> None:
        """Print a warning to stderr, quiet or not, and keep it in log.txt."""
        if self.speaks:
            self._record(f"Warning: {text}")
            sys.stderr.write(f"Warning: {text}\n")

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
        append_line(self.path, text)

    def _show(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

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
        with Progress(*columns, transient=True) as bar:
            self._bar = bar
            try:
                yield ProgressBar(bar, bar.add_task("", completed=done, total=total))
            finally:
                self._bar = None


class ProgressBar:
    """A bar of rich's, or nothing."""

    def __init__(self, bar: Any, task: Any) -> None:
        self._bar = bar
        self._task = task

    def advance_to(self, step: int) -> None:
        """Show that `step` steps are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
