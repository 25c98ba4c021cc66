"""What the ranks do in tests.  They only answer; pytest asserts, so nothing deadlocks."""

import contextlib
import faulthandler
import functools
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from gan_mpi import checkpoint
from gan_mpi import comm as comm_module
from gan_mpi.comm import Communicator, world
from gan_mpi.config import new_config
from gan_mpi.datasets.glyphs import draw_glyphs
from gan_mpi.errors import UserError
from gan_mpi.losses import CntkLoss
from gan_mpi.networks.layers import xavier_as_cntk
from gan_mpi.parallel import (
    BatchNorm,
    GradientBucket,
    average_gradients,
    broadcast_network,
    check_replicas,
    synchronise_batch_norm,
)
from gan_mpi.prepare import build_game
from gan_mpi.state import RunState
from gan_mpi.step import (
    D_SUMS,
    G_SUMS,
    Game,
    discriminator_step,
    generator_step,
    make_player,
)
from gan_mpi.streams import Purpose
from gan_mpi.train import Feed, take_step

NEVER = SimpleNamespace(requested=False)


def main(function, arguments, timeout):
    faulthandler.dump_traceback_later(timeout, exit=True)
    comm = world()
    answers = comm.gather(globals()[function](comm, *arguments))
    if comm.is_root:
        print("ANSWERS", json.dumps(answers), flush=True)
    comm_module.leave()


def several(comm, calls):
    """Answer [function, *arguments] one after another: a start of the ranks takes seconds."""
    return [globals()[function](comm, *arguments) for function, *arguments in calls]


def on_each_size(comm, largest, function):
    """Return, on rank 0, how far function(comm) on 2 .. largest ranks is from that on 1."""
    found = {}
    for size in range(1, largest + 1):
        part = comm.mpi.Split(0 if comm.rank < size else 1, comm.rank)
        if comm.rank < size:
            found[size] = function(Communicator(part))
        comm.barrier()
    if comm.is_root:
        return {size: distance(found[1], found[size]) for size in range(2, largest + 1)}


def distance(one, other):
    """Return the largest difference of two dicts of tensors, and where it is.

    It is relative to the largest element of each tensor; but a bias directly before a batch
    norm has no gradient but rounding, so that it and its optimizer state stay where they were.
    """
    assert one.keys() == other.keys(), (one.keys(), other.keys())
    apart = {}
    for name in one:
        scale = one[name].abs().max().item()
        gap = (one[name] - other[name]).abs().max().item()
        apart[name] = gap / scale if scale > 1e-9 else gap
    worst = max(apart, key=apart.get)
    return [apart[worst], worst]


def everything(state):
    """Return the parameters, buffers, optimizer states and last losses by name."""
    found = {f"loss_{name}": torch.tensor(loss) for name, loss in state.losses.items()}
    for name, player in (("G", state.game.G), ("D", state.game.D)):
        found |= {
            f"{name}.{key}": value for key, value in player.network.state_dict().items()
        }
        for index, slots in player.optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                found[f"{name}_optimizer.{index}.{slot}"] = torch.as_tensor(value)
    return {name: value.detach().clone().double() for name, value in found.items()}


@functools.cache
def glyphs():
    return draw_glyphs(1200)[0]


def run_steps(comm, steps, given, make_game=None, data=None):
    """Train a new game for some steps; return its state."""
    torch.set_num_threads(2 if comm.world_size == 1 else 1)
    config = new_config({"steps": max(1, steps), **given})
    data = glyphs() if data is None else data
    game = (make_game or build_game)(comm, config, data.shape[1:], torch.device("cpu"))
    state = RunState(config, {"count": len(data), "name": "test"}, game)
    feed = Feed(comm, state, data, torch.device("cpu"))
    for _ in range(steps):
        take_step(comm, state, feed, NEVER)
    check_replicas(comm, G=state.game.G.network, D=state.game.D.network)
    return state


def invariance(comm, cases):
    """Answer each case, (kind, largest number of ranks, arguments), by on_each_size."""
    kinds = {
        "basic": lambda comm, steps, given: everything(run_steps(comm, steps, given)),
        "parameters": lambda comm, steps, given: parameters(
            run_steps(comm, steps, given)
        ),
        "batch norm": lambda comm, steps, given: everything(
            run_steps(comm, steps, given, make_game=batch_normalised_game)
        ),
        "gradients": gradients_of_one_update,
    }
    return {
        name: on_each_size(
            comm, largest, functools.partial(kinds[kind], steps=steps, given=given)
        )
        for name, kind, largest, steps, given in cases
    }


def parameters(state):
    return {k: v for k, v in everything(state).items() if k.startswith(("G.", "D."))}


def gradients_of_one_update(comm, steps, given):
    state = run_steps(comm, steps, given)
    feed = Feed(comm, state, glyphs(), torch.device("cpu"))
    discriminator_step(comm, state.game, feed.next_real(), feed.next_latents(), False)
    generator_step(comm, state.game, feed.next_latents(), False)
    return {
        "D": state.game.D.bucket.gradients.clone(),
        "G": state.game.G.bucket.gradients.clone(),
    }


def state_round_trip(comm):
    """Return whether all of a state comes back from what a checkpoint holds."""
    state = run_steps(comm, 2, {"batch": 30})
    fresh = run_steps(comm, 0, {"batch": 30, "seed": 5})
    fresh.load(checkpoint.unpack(checkpoint.pack(state.to_dict()), Path("x")))
    return [
        fresh.progress == state.progress and state.progress.updates_D == 4,
        fresh.window == state.window and len(state.window.totals) == 6,
        distance(everything(fresh), everything(state))[0] == 0,
    ]


class SmallGenerator(nn.Module):
    def __init__(self, latent_dim):
        super().__init__()
        self.dense = nn.Sequential(
            nn.Linear(latent_dim, 4 * 49), BatchNorm(4 * 49), nn.ReLU()
        )
        self.up = nn.Sequential(
            nn.ConvTranspose2d(4, 4, 4, 2, 1),
            BatchNorm(4),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 1, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, latents):
        return self.up(self.dense(latents).view(-1, 4, 7, 7))


class SmallDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4, 8, 4, 2, 1),
            BatchNorm(8),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(8 * 49, 1),
        )

    def forward(self, images):
        return self.layers(images).squeeze(1)


def batch_normalised_game(comm, config, image_shape, device):
    players = []
    for network, optimizer, purpose, sums in (
        (SmallGenerator(config.latent_dim), config.G, Purpose.WEIGHTS_G, G_SUMS),
        (SmallDiscriminator(), config.D, Purpose.WEIGHTS_D, D_SUMS),
    ):
        network.double()
        xavier_as_cntk(network, config.seed, purpose)
        for layer in network.modules():
            if isinstance(layer, BatchNorm):
                nn.init.ones_(layer.weight)
        synchronise_batch_norm(comm, network)
        broadcast_network(comm, network)
        players.append(make_player(network, optimizer, config.batch, sums))
    return Game(*players, CntkLoss())


def averages(comm, staged=False):
    """Ranks with `rank` samples of value rank+1: rank 0 has none.

    `staged` sends the bucket through a second buffer, as from a GPU.
    """
    torch.manual_seed(0)
    layer = nn.Linear(3, 2).double()
    bucket = GradientBucket(layer, sums=1)
    if staged:
        bucket.host = torch.empty_like(bucket.buffer)
    inputs = torch.full((comm.rank, 3), comm.rank + 1.0, dtype=torch.double)
    bucket.zero()
    loss = layer(inputs).sum()
    loss.backward()
    result = average_gradients(comm, bucket, [loss], comm.rank, stop=comm.rank == 1)
    answer = [layer.weight.grad[0, 0].item(), layer.bias.grad[0].item(), result.stop]
    layer.zero_grad(set_to_none=True)
    try:
        average_gradients(comm, bucket, [loss], 1, stop=False)
    except RuntimeError as error:
        answer.append(str(error))
    return answer


def batch_norm_against_torch(comm, shape, shares):
    """Return how far uneven shares are from torch's layer on the whole batch, by what."""
    torch.manual_seed(1)
    whole = (torch.randn(shape, dtype=torch.double) * 3 + 2).requires_grad_()
    weights = torch.randn(shape, dtype=torch.double)
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    reference = kind(shape[1]).double()
    mine = BatchNorm(shape[1]).double()
    with torch.no_grad():
        for parameter, other in zip(
            reference.parameters(), mine.parameters(), strict=True
        ):
            parameter.copy_(torch.randn_like(parameter))
            other.copy_(parameter)
    mine.comm = comm
    lo, hi = sum(shares[: comm.rank]), sum(shares[: comm.rank + 1])
    part = whole.detach()[lo:hi].clone().requires_grad_()

    def passes(layer, inputs, weights):
        """Outputs, and the gradients of a loss that contains a gradient penalty."""
        outputs = layer(inputs)
        (slope,) = torch.autograd.grad(
            (outputs.tanh() * weights).sum(), inputs, create_graph=True
        )
        loss = slope.square().sum() + (outputs * weights).sum()
        return [
            outputs,
            slope,
            *torch.autograd.grad(loss, [inputs, *layer.parameters()]),
        ]

    expected = passes(reference, whole, weights)
    found = passes(mine, part, weights[lo:hi])
    mine.commit()
    for gradient in found[3:]:
        comm.sum_in_place(gradient.numpy())
    gap = {}
    for name, a, b in zip(
        ("outputs", "slope", "inputs"), expected, found, strict=False
    ):
        gap[name] = (a[lo:hi] - b).abs().max().item() if hi > lo else 0.0
    for name, a, b in zip(("weight", "bias"), expected[3:], found[3:], strict=True):
        gap[name] = (a - b).abs().max().item()
    for name in ("running_mean", "running_var"):
        gap[name] = (getattr(reference, name) - getattr(mine, name)).abs().max().item()
    return gap


def second_derivative(comm):
    """gradcheck and gradgradcheck of the layer on this rank's own communicator."""
    from mpi4py import MPI

    torch.manual_seed(2)
    layer = BatchNorm(3).double()
    layer.comm = Communicator(MPI.COMM_SELF)
    inputs = torch.randn(5, 3, 2, 2, dtype=torch.double, requires_grad=True)
    return [
        torch.autograd.gradcheck(layer, inputs),
        torch.autograd.gradgradcheck(layer, inputs),
    ]


def which_passes_leave_a_trace(comm):
    """Return the pending statistics after each kind of pass, and what commit leaves."""
    layer = BatchNorm(2)
    layer.comm = comm
    inputs, counts = torch.randn(4, 2), []
    with torch.no_grad():
        layer(inputs)
    counts.append(len(layer._pending))
    layer.requires_grad_(False)
    layer(inputs)
    counts.append(len(layer._pending))
    layer.requires_grad_(True)
    layer(inputs)
    counts.append(len(layer._pending))
    counts.append(bool((layer.running_mean == 0).all()))
    layer.commit()
    counts.append(bool((layer.running_mean == 0).all()))
    return counts


def differing_replicas(comm):
    torch.manual_seed(comm.rank)
    layer = nn.Linear(2, 2)
    broadcast_network(comm, layer)
    check_replicas(comm, G=layer)
    if comm.rank == 2:
        with torch.no_grad():
            layer.bias[1] += 1e-6
    try:
        check_replicas(comm, G=layer)
    except UserError as error:
        return str(error)


def shared_copy(comm, free):
    """Share an array, with so much free shared memory; return what came of it."""
    known = comm_module.free_bytes
    if free is not None:
        comm_module.free_bytes = lambda folder: free
    array = glyphs() if comm.local_rank == 0 else None
    copy, shared = comm.share_on_node(array)
    answer = [shared, bool((copy == glyphs()).all()), copy.flags.writeable]
    comm.close()
    comm_module.free_bytes = known
    return answer


def errors_on_some(comm):
    """Return what each rank is told when root, and when the last rank, raises."""

    def fail():
        raise UserError("the file is bad", exit_code=2)

    told = []
    for attempt in (
        lambda: comm.on_root(fail),
        lambda: comm.agree(
            lambda: fail() if comm.rank == comm.world_size - 1 else None
        ),
    ):
        try:
            attempt()
        except UserError as error:
            told.append([str(error), error.exit_code, error.on_all_ranks])
    told.append(comm.on_root(lambda: 17 + comm.rank))
    return told


def train_outcomes(comm, runs, folder):
    """Call train() for each dict of options; return its exit code, or the error's sentence.

    A list [path, size] between them cuts a file to its first bytes.
    """
    from gan_mpi.train import train

    os.chdir(folder)
    found = []
    for given in runs:
        if isinstance(given, list):
            comm.on_root(lambda given=given: os.truncate(*given))
            continue
        try:
            found.append(train(comm, {"quiet": True, **given}, NEVER))
        except UserError as error:
            found.append([str(error), error.exit_code, error.on_all_ranks])
    return found


def sample_outcomes(comm, draws, folder):
    """Call sample() for each list of source, step, seeds, grid, format, out; return as above."""
    from gan_mpi.sample import sample

    os.chdir(folder)
    found = []
    for source, step, seeds, grid, kind, out in draws:
        paths = [None if path is None else Path(path) for path in (source, out)]
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                found.append(sample(comm, paths[0], step, seeds, grid, kind, paths[1]))
        except UserError as error:
            found.append([str(error), error.exit_code, error.on_all_ranks])
    return found


def sample_on(comm, size, draws, folder):
    """Draw on the first `size` ranks only."""
    part = comm.mpi.Split(0 if comm.rank < size else 1, comm.rank)
    found = (
        sample_outcomes(Communicator(part), draws, folder) if comm.rank < size else None
    )
    comm.barrier()
    return found


class Trap:
    """A stop request that blocks for ever in a step, once it has told its process id."""

    def __init__(self, comm, step, d_steps=2):
        self.calls, self.at = 0, (step - 1) * (d_steps + 1) + 2
        self.marker = Path(f"rank{comm.rank}.pid")

    @property
    def requested(self):
        self.calls += 1
        if self.calls == self.at:
            self.marker.write_text(str(os.getpid()))
            faulthandler.cancel_dump_traceback_later()
            while True:
                import time

                time.sleep(1)
        return False


def train_on(comm, runs, folder):
    """Call train() with each [size, options] on the first `size` ranks; return the outcomes."""
    found = []
    for size, given in runs:
        part = comm.mpi.Split(0 if comm.rank < size else 1, comm.rank)
        if comm.rank < size:
            found += train_outcomes(Communicator(part), [given], folder)
        comm.barrier()
    return found


def train_until_killed(comm, given, folder, step):
    """Train, and hang in the middle of a step for the test to kill."""
    from gan_mpi.train import train

    os.chdir(folder)
    train(comm, given, Trap(comm, step))


def global_generators_stand_still(comm):
    """Return whether torch's and numpy's global generators stand still during a step."""
    import numpy as np

    state = run_steps(comm, 1, {"batch": 30})
    feed = Feed(comm, state, glyphs(), torch.device("cpu"))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    take_step(comm, state, feed, NEVER)
    after = torch.get_rng_state(), np.random.get_state()[1]
    return [bool((before[0] == after[0]).all()), bool((before[1] == after[1]).all())]
