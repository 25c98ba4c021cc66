"""Recorded turns without a GPU: what stands for its graph, on a CPU treated as a device."""

from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from gan_mpi.networks import variations
from gan_mpi.runs import checkpoint
from gan_mpi.training.captured import Captured
from gan_mpi.training.supply import Supply
from gan_mpi.training.turn import Turn
from ranks.device import on_a_device
from ranks.programs import NEVER
from ranks.training import data_of, distance, everything, feed_of, run_steps, shrink_networks

aten = torch.ops.aten


class Tape(TorchDispatchMode):
    """Stands for a graph of a GPU: keeps what was launched, and does it again on the same tensors.

    What was a number of the host when it was recorded stays that number.
    """

    def __init__(self):
        super().__init__()
        self.kept, self.own, self.is_aside = [], [], False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        if self.is_aside:
            if func._overloadpacket is aten.copy_:
                own = {each.data_ptr() for each in self.own}
                assert args[0].data_ptr() not in own, "a graph uses its memory for other things"
            return outputs
        self.own += [each for each in tree_leaves(outputs) if isinstance(each, torch.Tensor)]
        if "empty" not in str(func):  # memory is taken once
            assert func._overloadpacket is not aten._local_scalar_dense, "the host reads a number"
            self.kept.append((func, args, kwargs or {}, outputs))
        return outputs

    def warm(self, launch):
        return launch()

    def record(self, launch):
        with self:
            launch()

    def aside(self, act):
        self.is_aside = True
        act()
        self.is_aside = False

    def replay(self):
        with torch._C._AutoDispatchBelowAutograd():
            for func, args, kwargs, before in self.kept:
                now = func(*args, **kwargs)
                for old, new in zip(tree_leaves(before), tree_leaves(now), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def captured(comm, steps, cases):
    """Answer each case (options): the first difference of a run whose turns are recorded, and of
    one that goes on from its half, from one whose turns are played; and how many were launched.
    """
    shrink_networks()
    variations.one_hot = lambda labels, n: (labels[:, None] == torch.arange(n)).long()
    with on_a_device():  # where torch's own looks at no label
        return [_captured(comm, steps, options) for options in cases]


def _captured(comm, steps, options):
    played = run_steps(comm, steps, options)
    whole, launched = _launch_steps(comm, steps, steps, options)
    half, _ = _launch_steps(comm, steps // 2, steps, options)
    saved = checkpoint.unpack(checkpoint.pack(half.gather(comm)), Path("x"))
    rest, _ = _launch_steps(comm, steps - steps // 2, steps, options, saved)
    gaps = [distance(everything(played), everything(state)) for state in (whole, rest)]
    for state in (whole, rest):
        assert state.progress == played.progress, (state.progress, played.progress)
        assert state.window == played.window and state.losses == played.losses
        assert (state.ema is None) or state.ema.updates == played.ema.updates
        assert (state.replay is None) or state.replay.count == played.replay.count
    return [*gaps, launched]


def _launch_steps(comm, more, steps, options, saved=None, graph=None):
    """Do some steps of a new or a saved run; return its state, and how many were launched."""
    state = run_steps(comm, 0, {"steps": steps, **options})
    if saved is not None:
        state.load(saved)
    feed = feed_of(comm, state, data_of(state.config.dataset), room=10**9)
    feed.draw_ahead()
    supply, replayed = Supply(comm, state.game, feed), []

    class Counted(Tape):
        def replay(self):
            replayed.append(self)
            super().replay()

    turns = Captured(state, graph or Counted())
    for _ in range(more):
        turns.play(Turn(comm, state, supply, NEVER))
    return state, len(replayed)


class Refusing(TorchDispatchMode):
    """Stands for a GPU that cannot record a step, of which it does nothing."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.is_mutable:
            args, kwargs = tree_map(_copy, (args, kwargs))
        return func(*args, **(kwargs or {}))

    def warm(self, launch):
        return launch()

    def record(self, launch):
        with self:
            launch()
        raise RuntimeError("operation not permitted when stream is capturing\nsecond line")

    def aside(self, act):
        pass  # what comes before a launch


def _copy(value):
    return value.clone() if isinstance(value, torch.Tensor) else value


def refused(comm, steps, cases):
    """Answer each case (options): the first difference of a run on a device that cannot record its
    turns from one whose turns are played.
    """
    shrink_networks()
    with on_a_device():
        found = []
        for options in cases:
            played = run_steps(comm, steps, options)
            state, _ = _launch_steps(comm, steps, steps, options, graph=Refusing())
            assert state.progress == played.progress and state.window == played.window
            found.append(distance(everything(played), everything(state)))
    return found
