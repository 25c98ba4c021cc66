"""The path of a device without one: what would cross from it, and what it computes, on a CPU."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gan_mpi.config.resolve import new_config
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.errors import UserError
from gan_mpi.parallel import staging
from gan_mpi.parallel.bucket import FACTS
from gan_mpi.runs.record import DataRecord
from gan_mpi.training.build import build_game
from gan_mpi.training.feed import Feed
from gan_mpi.training.state import RunState
from gan_mpi.training.supply import Supply
from gan_mpi.training.turn import Turn
from ranks.programs import NEVER
from ranks.training import (
    COUNTS,
    continue_steps,
    data_of,
    distance,
    everything,
    feed_of,
    run_steps,
    shrink_networks,
)

aten = torch.ops.aten
META = torch.device("meta")


class Crossings(TorchDispatchMode):
    """Counts what waits for the meta device, which stands for a GPU, and the bytes from it.

    It has no numbers: 1 is read.  Operations that it has no shapes of are answered here.
    """

    def __init__(self):
        super().__init__()
        self.count = self.nbytes = 0

    def _crosses(self, tensor):
        self.count += 1
        self.nbytes += tensor.nbytes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, operation = kwargs or {}, func._overloadpacket
        given = args[0] if args and isinstance(args[0], torch.Tensor) else None
        on_device = given is not None and given.is_meta
        if operation is aten._local_scalar_dense and on_device:
            self._crosses(given)
            return torch.ones((), dtype=given.dtype).item()
        if operation is aten._to_copy and on_device and kwargs.get("device", META) != META:
            self._crosses(given)
            return torch.ones(given.shape, dtype=kwargs.get("dtype") or given.dtype)
        if operation is aten.copy_ and args[1].is_meta and not on_device:
            self._crosses(args[1])
            return given.fill_(1)
        if operation in (aten.nonzero, aten.masked_select, aten._unique2) and on_device:
            raise AssertionError(f"{func} of a device waits for it")
        if operation in (aten.index, aten.index_put_, aten._index_put_impl_):
            masks = [each for each in args[1] if each is not None and each.dtype == torch.bool]
            assert not masks, f"{func} with a mask waits for the device"
        if operation is aten.batch_norm_update_stats and on_device:
            return given.new_empty(given.shape[1]), given.new_empty(given.shape[1])
        if operation is aten.native_batch_norm and on_device and "out" in kwargs:
            return kwargs["out"], kwargs["save_mean"], kwargs["save_invstd"]
        return func(*args, **kwargs)


def crossings(comm, cases, steps=3):
    """Answer each case (options): by step, how often this rank waits for its device, and the bytes
    that it reads from there; MPI's messages and their bytes, and of these the facts of updates;
    then how often it waits to read the figures, and how many there are.  Networks are small: it
    does not depend on that.
    """
    shrink_networks()
    return [_crossings(comm, options, steps) for options in cases]


def _crossings(comm, options, steps):
    """Count the crossings of some steps; data of one channel are kept on the device."""
    config = new_config({"steps": 100, **options})
    data = data_of(config.dataset)
    counts = COUNTS if config.conditional != "no" else ()
    room = data.nbytes if len(data) == 1200 else 0
    with Crossings() as crossed:
        built = build_game(comm, config, data.shape[1:], META, counts)
        about = DataRecord("t", "t", None, None, len(data), data.shape[1:], "", label_counts=counts)
        state = RunState(config, about, built.game, built.ema, built.replay, built.adaptation)
        labels = torch.arange(len(data)).remainder(3).numpy() if counts else None
        feed = Feed(comm, state, Dataset("t", "t", data, labels, ""), META, room=room)
        supply = Supply(comm, state.game, feed)
        Turn(comm, state, supply, NEVER).play()
        crossed.count = crossed.nbytes = 0
        comm.messages = []
        updates = -state.progress.updates_D - state.progress.updates_G
        for _ in range(steps):
            Turn(comm, state, supply, NEVER).play()
        updates += state.progress.updates_D + state.progress.updates_G
        sent, comm.messages = comm.messages, None
        found = crossed.count, crossed.nbytes
        read = len(state.window.counts)
    return {
        "waits": found[0] / steps,
        "nbytes": found[1] / steps,
        "messages": len(sent) / steps,
        "sent": sum(sent) / steps,
        "facts": FACTS * 4 * updates / steps,
        "read": [crossed.count - found[0], read],
    }


@contextmanager
def on_a_device():
    """Let the CPU be treated as a device whose numbers the host does not see."""
    plain, staging.is_host = staging.is_host, lambda device: False
    try:
        yield
    finally:
        staging.is_host = plain


def as_on_a_device(comm, steps, cases):
    """Answer each case (options): how far one rank that keeps its numbers is from one that reads
    each, how far their means are, and whether reading them earlier changes a bit.
    """
    shrink_networks()
    return [_as_on_a_device(comm, steps, options) for options in cases]


def _as_on_a_device(comm, steps, options):
    plain = run_steps(comm, steps, options)
    with on_a_device():
        kept = run_steps(comm, steps, options)
        often = run_steps(comm, 0, {"steps": steps, **options})
        for _ in range(steps):
            continue_steps(comm, often, 1, data_of(often.config.dataset))
            often.books.settle()
    means, others = (
        {name: torch.tensor([mean]) for name, mean in state.window.means().items()}
        for state in (plain, kept)
    )
    return {
        "state": distance(everything(plain), everything(kept)),
        "means": distance(means, others),
        "counts": plain.window.counts == kept.window.counts,
        "updates": plain.window.updates == kept.window.updates,
        "often": distance(everything(kept), everything(often))[0] == 0
        and kept.window == often.window,
    }


def fed(comm, micro_batch, cases):
    """Answer each case (options): whether batches drawn ahead of data that a device keeps are those
    that are drawn when they are asked for, in and out of turn.
    """
    return [_fed(comm, micro_batch, options) for options in cases]


def _fed(comm, micro_batch, options):
    state = run_steps(comm, 0, options)
    plain = feed_of(comm, state, data_of(state.config.dataset), micro_batch)
    ahead = feed_of(comm, state, data_of(state.config.dataset), micro_batch, room=10**9)
    assert plain.kept is None and ahead.kept is not None
    batch = state.config.batch
    ahead.draw_ahead()
    for number in (0, 1, 2, 1, 5, 6, 500):
        for part in plain.parts:
            for each in ("next_reals", "next_latents"):
                one, other = (getattr(feed, each)(number * batch, *part) for feed in (plain, ahead))
                if not all(torch.equal(*pair) for pair in zip(one.inputs, other.inputs)):
                    return [number, each]
    return []


def left_out(comm, cases):
    """Answer each case (options, batch of D or of G that is not finite): which tensors a run that
    goes on until its figures are read has changed by then, and the error's sentence and code.
    """
    shrink_networks()
    with on_a_device():
        return [_left_out(comm, options, kind) for options, kind in cases]


def _left_out(comm, options, kind):
    options = {"steps": 9, **options}
    state = run_steps(comm, 3, options)
    expected = _tensors(state)
    if (
        kind == "G" and state.config.turn[0] == "D"
    ):  # in the step that it fails in, D has learned before
        healthy = _tensors(run_steps(comm, 4, options))
        expected |= {name: healthy[name] for name in expected if not name.startswith("G")}
    see, seen = state.game.see, []

    def see_once(batch):
        values = see(batch)
        learns = "G" if batch.values.requires_grad else batch.kind
        if learns == kind and not seen:
            seen.append(batch)
            values = values * float("nan")
        return values

    state.game.see = see_once
    continue_steps(comm, state, 4, data_of(state.config.dataset))
    assert seen, "nothing was made infinite"
    after = _tensors(state)
    changed = [name for name in after if not torch.equal(after[name], expected[name])]
    try:
        state.books.settle()
    except UserError as error:
        return [changed, str(error), error.exit_code]
    return [changed, "", 0]


def _tensors(state):
    """Return copies of all tensors that updates change, by name, but for their counts."""
    found = {}
    for name, network in state.networks.items():
        found |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
    for name, player in (("G", state.game.G), ("D", state.game.D)):
        for index, slots in player.optimizer.state_dict()["state"].items():
            found |= {f"{name}: {index}.{slot}": each for slot, each in slots.items()}
    if state.replay is not None:
        found["replay"] = state.replay.images
    return {name: each.clone() for name, each in found.items() if not name.endswith(".step")}
