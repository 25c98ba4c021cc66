"""Click options from configuration fields, so that each option is written once."""

from collections.abc import Callable, Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any

import click

from gan_mpi.config.presets import PRESETS
from gan_mpi.options.params import FiniteRange, RampRange, RunPath, WholeRange, WordOrRange

PLAYERS = {"": "both players", "g": "the generator", "d": "the discriminator"}
HEADINGS = (
    "Everyday",
    "Model",
    "Schedule",
    "Beyond the originals",
    "Sites",
    "Optimizers",
    "Evaluation",
    "Running",
)
BY_PRESETS = {name for preset in PRESETS.values() for name in preset.settings}
METAVARS = {int: "N", float: "X"}


class GroupedCommand(click.Command):
    """A command whose --help lists its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                heading = getattr(param, "group", None) or "Other"
                groups.setdefault(heading, []).append(record)
        for heading, records in sorted(groups.items(), key=_order):
            with formatter.section(heading):
                formatter.write_dl(records)


def _order(group: tuple[str, Any]) -> int:
    heading = group[0]
    return HEADINGS.index(heading) if heading in HEADINGS else len(HEADINGS)


class GroupedOption(click.Option):
    """An option under a heading."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


def config_options(*configs: type) -> Callable[[Any], Any]:
    """Add the options of configuration dataclasses to a command, by the metadata of the fields.

    An option that is not given is None, so that what is given can be told from a default.
    Fields that are configurations of a player become three options: shared, G's and D's.
    """

    def decorate(command: Any) -> Any:
        for option in reversed(list(_all_options(configs))):
            command = option(command)
        return command

    return decorate


def some_options(names: tuple[str, ...], *configs: type, **defaults: str) -> Callable[[Any], Any]:
    """Add the options of these fields to a command, as `config_options` would.

    `defaults` say of some what they are here where they are not given.
    """
    known = {each.name: each for config in configs for each in fields(config)}

    def decorate(command: Any) -> Any:
        for name in reversed(names):
            command = _option(known[name], default=defaults.get(name))(command)
        return command

    return decorate


def _all_options(configs: tuple[type, ...]) -> Iterator[Callable[[Any], Any]]:
    nested: list[type] = []
    for config in configs:
        for config_field in fields(config):
            if is_dataclass(config_field.default):
                nested.append(type(config_field.default))
            else:
                yield _option(config_field)
    for config in dict.fromkeys(nested):
        for player in PLAYERS:
            for config_field in fields(config):
                yield _option(config_field, player)


def _option(
    config_field: Field, player: str = "", default: str | None = None
) -> Callable[[Any], Any]:
    meta = config_field.metadata
    name = f"{player}_{config_field.name}" if player else config_field.name
    kind = meta.get("type", type(config_field.default))
    is_flag = kind is bool
    spelled = name.replace("_", "-")
    can_be_denied = is_flag and config_field.default is None
    return click.option(
        f"--{spelled}/--no-{spelled}" if can_be_denied else f"--{spelled}",
        *meta.get("flags", ()),
        name,
        cls=GroupedOption,
        group=f"{meta['group']} of one player" if player else meta["group"],
        type=None if is_flag else _type(config_field, kind),
        is_flag=is_flag,
        default=None,
        metavar=meta.get("metavar", None if "choices" in meta else METAVARS.get(kind)),
        help=_help(config_field, player, default),
        **({"flag_value": meta["alone"]} if "alone" in meta else {}),
    )


def _help(config_field: Field, player: str, default: str | None) -> str:
    if player:
        return f"--{config_field.name.replace('_', '-')} for {PLAYERS[player]} only."
    known = default or config_field.metadata.get("shown_default", config_field.default)
    if known is None or isinstance(known, bool):
        return config_field.metadata["help"]
    is_own = default or "shown_default" in config_field.metadata
    if config_field.name in BY_PRESETS and not is_own:
        known = f"the preset's; of basic {known}"
    return f"{config_field.metadata['help']}  [default: {known}]"


def _type(config_field: Field, kind: type) -> Any:
    meta = config_field.metadata
    if "choices" in meta:
        return click.Choice(meta["choices"])
    if meta.get("is_run"):
        return RunPath(str)
    limits = {
        "min": meta.get("minimum", meta.get("above")),
        "max": meta.get("maximum", meta.get("below")),
        "min_open": "above" in meta,
        "max_open": "below" in meta,
    }
    if kind is float:
        return (RampRange if meta.get("ramps") else FiniteRange)(**limits)
    if limits["min"] is None and limits["max"] is None:
        return kind
    return WordOrRange(meta["word"], **limits) if "word" in meta else WholeRange(**limits)
