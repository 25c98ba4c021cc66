"""Whether what a checkpoint holds is of the networks that its settings make."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gan_mpi.runs.checkpoint import Checkpoint
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
