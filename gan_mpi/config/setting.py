"""A field of a configuration that is also an option of the command line."""

import math
from dataclasses import Field, field
from typing import Any

from gan_mpi.config.values import WRITTEN, is_ramp, ramp


def setting(default: Any, group: str, help: str, **limits: Any) -> Any:
    """Return a dataclass field with all that its command-line option needs.

    `limits` may hold `flags` (other spellings), `choices`, `minimum`, `maximum`, `above` and
    `below` (exclusive), `type` (where the default is None), `metavar`, `shown_default`, `alone`
    (what the option means without a value), `word` (that stands for a number), `ramps` (two numbers
    as FROM:TO will do), and `is_run` (a run's number will do).
    """
    return field(default=default, metadata={"group": group, "help": help, **limits})


def is_possible(of: Field[Any], value: object) -> bool:
    """Return whether an option could have given a field this value, or its default has it."""
    limits, kind = of.metadata, of.metadata.get("type", type(of.default))
    if value is None:
        return of.default is None
    if value == of.default and type(value) is type(of.default):
        return True
    if "word" in limits and value == limits["word"]:
        return True
    if limits.get("ramps") and is_ramp(value):
        return _are_possible(of, str(value))
    if type(value) not in ((int, float) if kind is float else (kind,)):
        return False
    if isinstance(value, str):
        return value in limits.get("choices", (value,)) and _is_understood(of.name, value)
    assert isinstance(value, int | float), "no setting is anything else"
    return (
        math.isfinite(value)
        and limits.get("minimum", value) <= value <= limits.get("maximum", value)
        and ("above" not in limits or value > limits["above"])
        and ("below" not in limits or value < limits["below"])
    )


def _are_possible(of: Field[Any], ends: str) -> bool:
    try:
        return all(is_possible(of, end) for end in ramp(ends))
    except ValueError:
        return False


def _is_understood(name: str, text: str) -> bool:
    try:
        WRITTEN.get(name, str)(text)
    except ValueError:
        return False
    return True
