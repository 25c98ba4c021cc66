"""Checkpoints, written behind the training loop."""

import copy
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import torch

from gan_mpi.clock import HERE
from gan_mpi.errors import Refused
from gan_mpi.parallel.replicas import as_it_lies
from gan_mpi.runs.checkpoint import Checkpoint
from gan_mpi.training.state import State

AGAIN = 5.0  # seconds at least between a try that failed and the next
GOES_ON = "Training goes on, and the next checkpoint is tried"
TRIED_AGAIN = f"It is tried again after {AGAIN:.0f} s"
Nested = TypeVar("Nested")


class Saver:
    """Writes one checkpoint at a time, in a thread and of a copy.  Root has one.

    What the operating system refuses, for want of room perhaps, is said, and the next checkpoint is
    tried; after `retries` that fail in a row the run ends, and one without any checkpoint at once.
    """

    def __init__(
        self, warn: Callable[[str], None], retries: int, saved: bool, sizes: Sequence[int] = ()
    ) -> None:
        """`saved` says whether there is a checkpoint to go on from.

        `sizes` are those of tensors whose copies are made room for now, before training begins.
        """
        self._warn, self._retries, self._saved = warn, retries, saved
        self._copies = Copies(sizes)
        self._write: Callable[[], None] | None = None  # that of the last step, till it is done
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._failures, self._failed = 0, -AGAIN  # tries in a row, and when the last of them did

    def begin(self, content: Checkpoint, write: Callable[[Checkpoint], None]) -> None:
        """Let `write` write a copy of a checkpoint, once the one before is done.

        Raises what that ran into, if the run cannot go on.
        """
        self.wait()
        copied = self._copies.of(content)
        self._write = lambda: write(copied)
        if time.monotonic() - self._failed >= AGAIN:
            self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        assert self._write is not None
        try:
            self._write()
            self._write, self._failures, self._saved = None, 0, True
        except BaseException as error:  # noqa: BLE001 - the loop raises it
            self._error, self._failed = error, time.monotonic()
            self._failures += 1

    def look(self, then: str = GOES_ON) -> None:
        """Warn of what the last checkpoint ran into, if it is done, and say what follows."""
        if self._thread is None or self._thread.is_alive():
            return
        self._thread = None
        left = self._retries - self._failures
        if isinstance(self._error, Refused) and self._saved and left >= 0:
            self._warn(f"{self._error} {then} ({left} more may fail); make room, or mend it.")
            self._error = None

    def require_sound(self) -> None:
        """Raise what the last checkpoint ran into, if it is done and the run cannot go on."""
        if self._thread is None and self._error is not None:
            raise self._error

    def wait(self, then: str = GOES_ON) -> None:
        """Wait for the checkpoint under way.  Raises what it ran into, if the run cannot go on."""
        if self._thread is not None:
            self._thread.join()
        self.look(then)
        self.require_sound()

    def insist(self) -> None:
        """Wait for the last checkpoint, and try it again while it fails.  Raises UserError."""
        self.wait(TRIED_AGAIN)
        while self._write is not None:
            while (left := self._failed + AGAIN - time.monotonic()) > 0:
                HERE.move()
                time.sleep(min(left, 1.0))
            self._start()
            self.wait(TRIED_AGAIN)


class Copies:
    """Copies of nested dicts, lists and tensors, into memory that is kept for the next ones."""

    def __init__(self, sizes: Sequence[int] = ()) -> None:
        """Have memory of these bytes ready, since to take it from the system takes longest."""
        self._kept: dict[tuple[object, ...], torch.Tensor] = {}
        self._ready: dict[int, list[torch.Tensor]] = {}
        for size in sizes:
            pages = torch.empty(size, dtype=torch.uint8).fill_(1)  # so that they are there
            self._ready.setdefault(size, []).append(pages)

    def of(self, value: Nested, *place: object) -> Nested:
        """Return a copy on the host; the next of what lies at this place overwrites it."""
        copied: object = value
        if isinstance(value, torch.Tensor):
            copied = self._tensor(value.detach(), place)
        elif isinstance(value, dict):
            copied = copy.copy(value)  # of its class, with what torch notes of a network
            copied.update({key: self.of(each, *place, key) for key, each in value.items()})
        elif isinstance(value, list):
            copied = [self.of(each, *place, number) for number, each in enumerate(value)]
        return cast(Nested, copied)

    def _tensor(self, tensor: torch.Tensor, place: tuple[object, ...]) -> torch.Tensor:
        kept = self._kept.get(place)
        if kept is None or (kept.shape, kept.stride(), kept.dtype) != (
            tensor.shape,
            tensor.stride(),
            tensor.dtype,
        ):
            kept = self._kept[place] = self._like(tensor)
        return kept.copy_(tensor)

    def _like(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor on the host of the same shape, strides and type, of its own storage."""
        ready = self._ready.get(tensor.nbytes)
        if not ready or not as_it_lies(tensor).is_contiguous():
            return torch.empty_like(tensor, device="cpu")
        return ready.pop().view(tensor.dtype).as_strided(tensor.shape, tensor.stride())


def sizes_of_copies(state: State) -> list[int]:
    """Return the bytes of each tensor of a checkpoint, but of old fakes and sites."""
    sizes = []
    for name, network in state.networks.items():
        sizes += [tensor.nbytes for tensor in network.state_dict().values()]
        if name in state.config.turn:
            settings = state.config.G if name == "G" else state.config.D
            sizes += settings.moments * [each.nbytes for each in network.parameters()]
    return sizes
