"""The options that a command line gave, by parameter name."""

from collections.abc import Mapping
from typing import cast

OptionValue = bool | int | float | str
Given = Mapping[str, OptionValue]


def text_of(given: Given, name: str) -> str | None:
    """Return the value of an option that is a text, None if it was not given."""
    return cast(str | None, given.get(name))


def flag_of(given: Given, name: str) -> bool | None:
    """Return whether an option was given or denied, None if neither."""
    return cast(bool | None, given.get(name))


def number_of(given: Given, name: str) -> int | None:
    """Return the value of an option that is a whole number, None if it was not given."""
    return cast(int | None, given.get(name))
