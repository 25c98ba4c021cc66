"""The records of a run: a JSON object a line, each looked at before it is believed."""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from gan_mpi.errors import Refused, printable, reason


@dataclass(frozen=True)
class Within:
    """The bounds of a number that is believed, both included."""

    least: float
    most: float


MANY = 2**53  # with which numbers may be counted, added and shown
Count = Annotated[int, Within(0, MANY)]
Positive = Annotated[int, Within(1, MANY)]
Amount = Annotated[float, Within(0, MANY)]
Record = TypeVar("Record")
_said: set[Path] = set()  # files of which it was said that lines are passed over


def read_records(
    path: Path,
    kind: type[Record],
    required: Sequence[str],
    last: int | None = None,
    agrees: Callable[[Record], bool] = lambda _: True,
) -> list[Record]:
    """Return the records of a file that are of a kind, a TypedDict, and have what is required.

    A line cut off by a crash, JSON of another type, numbers that are not finite and records that do
    not agree in themselves are passed over, which is said on stderr, once for a file.  There are
    none if there is no file.  With `last` only that many bytes at its end are read.  Raises
    Refused if it cannot be read.
    """
    found = [(line, _parsed(line, kind, required, agrees)) for line in _lines(path, last)]
    wrong = sum(record is None for line, record in found if line.strip())
    if wrong and path not in _said:
        _said.add(path)
        sys.stderr.write(
            printable(f"Warning: {path}: {wrong} line(s) cannot be read and are passed over\n")
        )
    return [record for _, record in found if record is not None]


def _lines(path: Path, last: int | None) -> list[bytes]:
    """Return the lines of a file, or those in its last bytes."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = 0 if last is None else max(0, size - last)
            file.seek(start)
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Refused(f"cannot read {path}: {reason(error)}.") from None
    return lines[1 if start else 0 :]  # the first may be cut off by the seek


def _parsed(
    line: bytes, kind: type[Record], required: Sequence[str], agrees: Callable[[Record], bool]
) -> Record | None:
    try:
        content = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not content.keys() >= set(required):
        return None
    record = cast(Record, content)
    return record if fits(content, kind) and agrees(record) else None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def fits(value: object, kind: Any) -> bool:
    """Return whether what was read from JSON is of a type, such as `dict[str, list[float]]`.

    Of a TypedDict it may hold other keys besides.
    """
    if kind is Any or kind is object:
        return True
    if is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        return (
            isinstance(value, dict)
            and value.keys() >= kind.__required_keys__
            and all(fits(each, hints[key]) for key, each in value.items() if key in hints)
        )
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        return fits(value, inner[0]) and inner[1].least <= value <= inner[1].most
    if origin is Literal:
        return value in inner
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if origin in (list, Sequence):
        return isinstance(value, list) and all(fits(each, inner[0]) for each in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(fits(each, inner[1]) for each in value.values())
    if origin is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
    if origin is int:
        return type(value) is int and abs(value) < 2**63  # type: ignore[arg-type]
    return value is None if origin in (None, NoneType) else isinstance(value, origin)


def to_line(record: Mapping[str, object]) -> str:
    """Return a record as a line, without numbers that are not finite, for which JSON has none."""
    return json.dumps(_finite(record), allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items() if _is_said(each)}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value if _is_said(each)]
    return value


def _is_said(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
