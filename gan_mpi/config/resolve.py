"""From options given on the command line to a configuration: new, or of a run that goes on."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from gan_mpi.config.contradictions import (
    check_beyond,
    check_effect,
    check_schedule,
    check_sites,
    check_uses,
    chosen_optimizer,
    option_names,
)
from gan_mpi.config.given import Given, OptionValue, text_of
from gan_mpi.config.optimizer import OPTIMIZERS, RATES, OptimizerConfig
from gan_mpi.config.presets import PRESETS
from gan_mpi.config.running import RunConfig
from gan_mpi.config.setting import is_possible
from gan_mpi.config.training import TrainConfig
from gan_mpi.errors import UserError, flag

REMEMBERED = ("evaluate_every", "samples", "classifier", "keep")


def apply_options(config: TrainConfig, given: Given) -> TrainConfig:
    """Return `config` with the options given on the command line, by parameter name."""
    own: dict[str, Any] = {f.name: given[f.name] for f in fields(TrainConfig) if f.name in given}
    if own.get("block_momentum", config.block_momentum) != config.block_momentum:
        own = {"optimizer_state": "reset", **own}  # as CNTK
    check_uses(config, given)
    generator, discriminator = (_apply_to_player(config, given, p) for p in "GD")
    changed = replace(config, **own, G=generator, D=discriminator)
    check_schedule(changed, given)
    check_beyond(changed)
    check_sites(changed, given)
    if "kimg" in given:
        images = changed.images_per_step
        changed = replace(changed, steps=max(1, -(-int(float(given["kimg"]) * 1000) // images)))
    return changed


def _apply_to_player(config: TrainConfig, given: Given, player: str) -> OptimizerConfig:
    before: OptimizerConfig = getattr(config, player)
    kind = chosen_optimizer(config, given, player)
    kept = before.settings if kind == before.optimizer else {}
    rates = {**OPTIMIZERS[kind], **{k: v for k, v in kept.items() if v is not None}}
    values: dict[str, Any] = {
        **dict.fromkeys(RATES),  # None: not used
        **rates,
        "lr_schedule": before.lr_schedule,
        "warmup": before.warmup,
    }
    for name in (*rates, "lr_schedule", "warmup"):
        own, shared = option_names(player, name)
        values[name] = given.get(own, given.get(shared, values[name]))
    return OptimizerConfig(optimizer=kind, **values)


def new_config(given: Given) -> TrainConfig:
    """Return the configuration of a new run: defaults, then the preset, then the options given."""
    preset = PRESETS[text_of(given, "preset") or TrainConfig.preset]
    length = preset.fast_steps if given.get("fast", True) else preset.full_steps
    with_preset = apply_options(TrainConfig(steps=length), preset.settings)
    config = apply_options(with_preset, given)
    if config.ramps and not config.ramp_steps:
        config = replace(config, ramp_steps=config.steps)
    check_effect(config, given)
    return config


def run_config(config: TrainConfig, given: Given, remembered: Given) -> RunConfig:
    """Return where and how to run: defaults, the preset's, what is remembered, what is given.

    A preset's grid is that of pictures without classes.
    """
    of_preset = dict(PRESETS[config.preset].run_settings)
    if config.conditional != "no":
        of_preset.pop("grid", None)
    chosen = {**of_preset, **remembered, **given}
    return RunConfig(**{f.name: chosen[f.name] for f in fields(RunConfig) if f.name in chosen})


def to_remember(run: RunConfig) -> dict[str, OptionValue]:
    """Return what a resumed run keeps: how it is evaluated and which files it keeps."""
    given = {name: getattr(run, name) for name in REMEMBERED}
    if run.classifier is not None and Path(run.classifier).exists():
        given["classifier"] = str(Path(run.classifier).resolve())
    return {name: value for name, value in given.items() if value is not None}


def resumed_config(saved: TrainConfig, given: Given) -> TrainConfig:
    """Return the configuration of a run that goes on, which only its length may change.

    Raises UserError naming every option that would change anything else.
    """
    if "fast" in given:
        preset = PRESETS[saved.preset]
        length = preset.fast_steps if given["fast"] else preset.full_steps
        given = {"steps": length, **given}
    asked = apply_options(saved, given)
    refused = [
        f"{flag(option)} is {new} now and was {old}"
        for option, old, new in _differences(saved, asked, given)
    ]
    if refused:
        raise UserError(
            f"a resumed run keeps what decides its result, but {', '.join(refused)}; leave the "
            "option out, or start a new run.",
            exit_code=2,
        )
    return asked


def _differences(
    saved: TrainConfig, asked: TrainConfig, given: Given
) -> list[tuple[str, Any, Any]]:
    changes = []
    before, after = asdict(saved), asdict(asked)
    for name in before:
        if name in ("G", "D"):
            for inner, old in before[name].items():
                own, shared = option_names(name, inner)
                option = own if own in given else shared
                changes.append((option, old, after[name][inner]))
        elif name != "steps":
            changes.append((name, before[name], after[name]))
    unique = dict.fromkeys(item for item in changes if item[1] != item[2] and item[0] in given)
    return list(unique)


def config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration that `dataclasses.asdict` turned into `values`."""
    players = {player: OptimizerConfig(**values[player]) for player in ("G", "D")}
    return TrainConfig(**{**values, **players})


def strange_settings(values: Mapping[str, Any]) -> tuple[list[str], dict[str, object]]:
    """Return which settings are not known here, and those that have a value that no option gives.

    `values` are what `dataclasses.asdict` made of a configuration, perhaps in another version.
    Settings of a player are named as G.lr.
    """
    names: list[str] = []
    strange: dict[str, object] = {}
    for before, held, kind in (
        ("", values, TrainConfig),
        *((f"{player}.", values.get(player), OptimizerConfig) for player in "GD"),
    ):
        if not isinstance(held, Mapping):
            strange[before[0]] = held
            continue
        known = {each.name: each for each in fields(kind) if not is_dataclass(each.default)}
        names += [f"{before}{name}" for name in held if name not in {*known, "G", "D"}]
        for name in known.keys() & held.keys():
            if not is_possible(known[name], held[name]):
                strange[f"{before}{name}"] = held[name]
    return sorted(names), strange
