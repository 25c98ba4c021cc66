"""A field of a configuration that is also an option of the command line."""

from dataclasses import field
from typing import Any


def setting(default: Any, group: str, help: str, **limits: Any) -> Any:
    """Return a dataclass field with all that its command-line option needs.

    `limits` may hold `flags` (other spellings), `choices`, `minimum`, `maximum`, `above` and
    `below` (exclusive), `type` (where the default is None), `metavar`, `shown_default`, `alone`
    (what the option means without a value), and `is_run` (a run's number will do).
    """
    return field(default=default, metadata={"group": group, "help": help, **limits})
