"""Checkpoints: one file, whole or absent, of tensors, numbers and strings only."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Literal, TypedDict, TypeVar, cast, get_type_hints

import torch
from torch import Tensor

from gan_mpi import __version__
from gan_mpi.config.resolve import strange_settings
from gan_mpi.errors import UserError, invalid_value, reason
from gan_mpi.files import remove, write_by
from gan_mpi.runs.directory import checkpoint_path, list_checkpoints
from gan_mpi.runs.record import DataDict
from gan_mpi.runs.records import Count, fits

FORMAT = 2
KEPT = 3  # the last ones
TO_DRAW = "version", "config", "data", "progress", "G"
TO_GO_ON = (*TO_DRAW, "D", "window", "losses", "balance")
# The end of a zip file: this, and 18 bytes, the last two of which are its comment's length.
ZIP_END, ZIP_END_SIZE = b"PK\x05\x06", 22
DIGEST = "sha256:"
Nested = TypeVar("Nested")
OTHER_NETWORKS = "its tensors are not those of the networks that its settings make"


class SavedEMA(TypedDict):
    """The averaged copy of G."""

    network: dict[str, Tensor]
    updates: Count


class SavedReplay(TypedDict):
    """The pool of old fakes: (depth, batch, *shape), labels (depth, batch)."""

    count: Count
    images: Tensor
    labels: Tensor


class SavedAdaptation(TypedDict):
    """How often images are augmented, and what D has said of reals since that changed."""

    probability: float
    updates: Count  # of D, when it last changed
    total: float
    count: Count


class SavedProgress(TypedDict):
    """How far a run is."""

    step: Count
    updates_G: Count
    updates_D: Count
    images: Count
    latents: Count


class Updates(TypedDict):
    """Updates by player."""

    D: Count
    G: Count


class SavedTurn(TypedDict):
    """What of a turn of the schedule is done, where a run goes on within one; in no file."""

    is_recorded: bool  # whether the step before has all that follows it
    players: Count  # of the turn that were trained
    latents_G: Count | None  # where the batch of the turn's first update of G begins
    of_fakes: dict[str, float]  # of D, which has learned from them and not yet from reals


class SavedWindow(TypedDict):
    """Sums of figures since the last status line."""

    totals: dict[str, float]
    counts: dict[str, Count]
    updates: Updates


class SavedBalance(TypedDict):
    """The state of the balance rule."""

    player: Literal["D", "G"]
    running: Count


class SavedKernels(TypedDict):
    """The libraries that compute, where they are not torch's own choice."""

    linear: Literal["mkl", "onednn"]


class SavedMomentum(TypedDict):
    """The smoothed change of all weights, flat."""

    smoothed: Tensor


class SavedSite(TypedDict, total=False):
    """What of a checkpoint each site has for itself."""

    progress: SavedProgress
    window: SavedWindow
    losses: dict[str, float]
    balance: SavedBalance
    G_optimizer: dict[str, Any]
    D_optimizer: dict[str, Any]
    replay: SavedReplay
    G_ema_updates: Count


class Checkpoint(SavedSite, total=False):
    """What a checkpoint holds: the state of a run, in tensors, numbers and strings only."""

    format: int
    version: str
    config: dict[str, Any]
    data: DataDict
    G: dict[str, Tensor]
    D: dict[str, Tensor]
    G_ema: SavedEMA
    sites: list[SavedSite]
    block_momentum: SavedMomentum | None
    kernels: SavedKernels
    adaptation: SavedAdaptation  # of --augment adaptive
    rollbacks: Count  # if there were any
    begun: SavedTurn  # of a run that goes on without ranks that are gone


def on_cpu(value: Nested) -> Nested:
    """Return nested dicts and lists with their tensors on the CPU."""
    moved: object = value
    if isinstance(value, torch.Tensor):
        moved = value.cpu()
    elif isinstance(value, dict):
        moved = {key: on_cpu(each) for key, each in value.items()}
    elif isinstance(value, list):
        moved = [on_cpu(each) for each in value]
    return cast(Nested, moved)


def save_checkpoint(run_dir: Path, step: int, content: Checkpoint, best: int | None = None) -> Path:
    """Write the checkpoint of a step, and drop all but the last few and that of the best step."""
    path = write_checkpoint(run_dir, step, content)
    for other, old in list_checkpoints(run_dir)[KEPT:]:
        if other != best:
            remove(old)
    return path


def write_checkpoint(run_dir: Path, step: int, content: Checkpoint) -> Path:
    """Write the checkpoint of a step, and return its file.  Raises UserError."""
    path = checkpoint_path(run_dir, step)
    write_by(path, lambda file: pack_into(file, content))
    return path


def pack(content: Checkpoint) -> bytes:
    """Return the bytes of a checkpoint."""
    buffer = io.BytesIO()
    pack_into(buffer, content)
    return buffer.getvalue()


def pack_into(file: IO[bytes], content: Checkpoint) -> None:
    """Write torch's zip file of a state, with the SHA-256 of all of it as its zip comment.

    Raises OSError.
    """
    archive = _Archive(file)
    try:
        torch.save({"format": FORMAT, **content}, cast(IO[bytes], archive))
    except RuntimeError:  # torch ends an archive all the same, and says that it is too short
        raise archive.refused or RuntimeError("torch.save wrote no archive") from None
    archive.end()


class _Archive:
    """What torch.save writes to: a file, but for the end of it, and its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self.refused: OSError | None = None  # what the file ran into
        self._file, self._sha256, self._last = file, hashlib.sha256(), b""

    def write(self, data: memoryview) -> int:
        """Take what comes next, which torch writes in pieces, the end of a zip file by itself."""
        if self._last:
            self._pass_on(self._last)
        self._last = data.tobytes() if len(data) == ZIP_END_SIZE else b""
        if not self._last:
            self._pass_on(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: the file is synced once it is whole."""

    def end(self) -> None:
        """Write the end, with the digest of all before its last two bytes as a comment."""
        if self._last[:4] != ZIP_END:
            raise RuntimeError("torch.save wrote no plain zip file")
        self._pass_on(self._last[:-2])
        comment = _comment(self._sha256)
        self._file.write(len(comment).to_bytes(2, "little") + comment)

    def _pass_on(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.refused = error
            raise


def unpack(data: bytes, path: Path) -> Checkpoint:
    """Return the content in the bytes of a checkpoint; `path` is for the message.

    Raises UserError if they are damaged, carry anything but tensors, numbers and strings, or
    have the format of another version.
    """
    size = len(_comment(hashlib.sha256()))
    body, comment = memoryview(data)[: -size - 2], data[-size:]
    if comment != _comment(hashlib.sha256(body)):
        raise UserError(
            f"{path} is damaged, or no checkpoint: it does not end in its own checksum."
        )
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - torch raises many kinds, with pages of advice
        raise UserError(f"{path} is no checkpoint: it holds more than tensors.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this version of gan-mpi.")
    return cast(Checkpoint, content)


def _comment(body: "hashlib._Hash") -> bytes:
    return (DIGEST + body.hexdigest()).encode()


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the content in a checkpoint file.  Raises UserError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}.") from None
    return unpack(data, path)


def require_known(path: Path, saved: Checkpoint, needed: Sequence[str] = TO_GO_ON) -> None:
    """Raise UserError unless a checkpoint holds what this version of gan-mpi needs of one."""
    if why := _what_is_unknown(saved, needed):
        raise unusable(path, str(saved.get("version")), why)


def unusable(path: Path, version: str, why: str) -> UserError:
    """Return the error of a checkpoint that is whole, and cannot be used."""
    if version == __version__:
        return UserError(f"{path} cannot be used: {why}; take another checkpoint.")
    return UserError(
        f"{path} was written by gan-mpi {version}, and this is {__version__}: {why}; take the "
        "version that wrote it."
    )


def _what_is_unknown(saved: Checkpoint, needed: Sequence[str]) -> str:
    """Return what of a checkpoint this version does not understand, "" if nothing."""
    lacking = [name for name in needed if name not in saved]
    if lacking:
        return f"it lacks {', '.join(lacking)}"
    kinds = get_type_hints(Checkpoint, include_extras=True)
    used = {*needed, *(saved if "D" in needed else ["G_ema"])} & kinds.keys() & saved.keys()
    held = cast(dict[str, object], saved)
    if strange := [name for name in kinds if name in used and not fits(held[name], kinds[name])]:
        return f"its {strange[0]} is written otherwise"
    names, values = strange_settings(saved["config"])
    if names:
        return f"it has settings that are not known here: {', '.join(map(str, names[:5]))}"
    if values:
        name, value = next(iter(values.items()))
        return f"its {name} is {value!r}, which is not known here"
    return ""


def newest_valid(run_dir: Path, warn: Callable[[str], None]) -> tuple[Path, Checkpoint]:
    """Return the newest checkpoint that can be read; `warn` is told of newer ones that cannot.

    Raises UserError if there is none, naming the newest and what is wrong with it.
    """
    first: UserError | None = None
    for _, path in list_checkpoints(run_dir):
        try:
            content = read_checkpoint(path)
        except UserError as error:
            first = first or error
            continue
        if first is not None:
            warn(f"{first} Going on from {path.name}.")
        return path, content
    raise first or UserError(f"{run_dir} holds no checkpoint.")


def find_checkpoint(
    source: Path, step: int | None, warn: Callable[[str], None]
) -> tuple[Path, Checkpoint]:
    """Return the file and content of a checkpoint file, or of a run's checkpoint of a step.

    Without a step it is the newest that can be read.  Raises UserError, naming the file and
    what is wrong with it.
    """
    if not source.exists():
        raise UserError(f"there is no run or checkpoint '{source}'.", exit_code=2)
    if not source.is_dir():
        return source, read_checkpoint(source)
    if step is None:
        return newest_valid(source, warn)
    path = checkpoint_path(source, step)
    if not path.exists():
        steps = ", ".join(str(step) for step, _ in list_checkpoints(source))
        raise invalid_value(
            "checkpoint", f"{source} holds no step {step}, but {steps or 'none at all'}"
        )
    return path, read_checkpoint(path)
