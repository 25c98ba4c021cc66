"""Whether what a checkpoint holds fits networks: those that its settings make, or a new run's."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gan_mpi.config.resolve import config_from_dict
from gan_mpi.errors import UserError, flag
from gan_mpi.runs.checkpoint import Checkpoint
from gan_mpi.runs.record import DataRecord
from gan_mpi.training.start import Transfer
from gan_mpi.training.state import RunState


def fits_state(saved: Checkpoint, state: RunState) -> bool:
    """Return whether all tensors of a checkpoint have their place in a state, and it has all."""
    pairs = [(saved["G"], state.game.G.network), (saved["D"], state.game.D.network)]
    if state.ema is not None:
        pairs.append((saved["G_ema"]["network"], state.ema.network))
    return (
        all(_shapes(tensors) == _shapes(network.state_dict()) for tensors, network in pairs)
        and _fits_optimizer(saved["G_optimizer"], state.game.G.optimizer)
        and _fits_optimizer(saved["D_optimizer"], state.game.D.optimizer)
        and (state.replay is None or _fits_replay(saved, state))
    )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _fits_optimizer(saved: Mapping[str, object], optimizer: torch.optim.Optimizer) -> bool:
    groups, moments = saved.get("param_groups"), saved.get("state")
    own = optimizer.state_dict()["param_groups"]
    if not isinstance(groups, list) or not isinstance(moments, dict):
        return False
    if [isinstance(each, dict) and each.get("params") for each in groups] != [
        each["params"] for each in own
    ]:
        return False
    shapes = [each.shape for group in optimizer.param_groups for each in group["params"]]
    return all(
        number in range(len(shapes))
        and isinstance(each, dict)
        and all(not isinstance(v, Tensor) or v.shape in ((), shapes[number]) for v in each.values())
        for number, each in moments.items()
    )


def _fits_replay(saved: Checkpoint, state: RunState) -> bool:
    """Return whether the pool has its depth and samples of the data, or is empty yet."""
    pool, shape = saved["replay"], state.data.shape
    images, labels = pool["images"], pool["labels"]
    if not pool["count"]:
        return True
    depth = state.config.replay
    return (
        images.dim() == 2 + len(shape)
        and images.shape[2:] == shape
        and images.shape[:2] == labels.shape
        and len(images) == depth
    )


def transfer(before: Transfer, state: RunState) -> None:
    """Begin with the networks of another run.  Raises UserError if they are others."""
    weights = {"G": before.saved["G"], "D": before.saved["D"]}
    for name, network in (("G", state.game.G.network), ("D", state.game.D.network)):
        shapes = {key: value.shape for key, value in weights[name].items()}
        mine = {key: value.shape for key, value in network.state_dict().items()}
        if shapes != mine:
            raise UserError(
                f"--transfer: {name} of {before.path} is not the network of this run: "
                f"{_what_differs(before.saved, state)}.",
                exit_code=2,
            )
        network.load_state_dict(dict(weights[name]))
    _require_same_places(before, state.data)
    if state.ema is not None:
        state.ema.restart()


def _require_same_places(before: Transfer, now: DataRecord) -> None:
    """Raise UserError if a class has another number here than the networks know it by.

    Classes that are new may be learned in the places of others.
    """
    names, here = DataRecord.from_dict(before.saved["data"]).class_names, now.class_names
    moved = [name for name in names if name in here and names.index(name) != here.index(name)]
    if now.label_counts and moved:
        raise UserError(
            f"--transfer: the classes of {before.path} are {listed(names)}, and here they are "
            f"{listed(here)}: its networks know {moved[0]} by another number.",
            exit_code=2,
        )


SHAPING = (
    "network",
    "width",
    "blocks",
    "latent_dim",
    "conditional",
    "g_norm",
    "d_norm",
    "g_dropout",
)


def _what_differs(saved: Checkpoint, state: RunState) -> str:
    """Say in what the networks of a checkpoint are made otherwise than those of a run."""
    config = config_from_dict(saved["config"])
    found = [
        f"{flag(name)} is {getattr(state.config, name)} here and was {getattr(config, name)} there"
        for name in SHAPING
        if getattr(state.config, name) != getattr(config, name)
    ]
    before, now = DataRecord.from_dict(saved["data"]), state.data
    for what, here, there in (
        ("samples are", "x".join(map(str, now.shape)), "x".join(map(str, before.shape))),
        ("classes are", now.classes, before.classes),
    ):
        if here != there and not (what == "classes are" and "--conditional" in "".join(found)):
            found.append(f"{what} {here} here and were {there} there")
    return ", ".join(found) or "its tensors have other shapes"


def listed(names: Sequence[str]) -> str:
    """Return names of classes, for people."""
    return ", ".join(names) or "not named"
