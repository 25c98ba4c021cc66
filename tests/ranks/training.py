"""Training on the ranks of tests, some steps at a time, and how far two outcomes are apart."""

import functools
import itertools
import math
from pathlib import Path

import numpy as np
import torch

from gan_mpi.config.resolve import new_config
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.datasets.drawn import draw_glyphs, draw_points
from gan_mpi.extras.augment import Adaptation
from gan_mpi.game.updates import discriminator_update, generator_update
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks import dcgan, dense
from gan_mpi.networks.layers import View
from gan_mpi.parallel.batch_norm import BatchNorm
from gan_mpi.parallel.replicas import check_replicas
from gan_mpi.runs import checkpoint
from gan_mpi.runs.record import DataRecord
from gan_mpi.training.build import build_game
from gan_mpi.training.feed import Feed
from gan_mpi.training.state import RunState
from gan_mpi.training.supply import Supply
from gan_mpi.training.turn import Turn
from ranks.programs import NEVER
from ranks.small_networks import batch_normalised_game


def on_each_size(comm, sizes, function):
    """Return, on rank 0, how far function(comm) on each of `sizes` ranks is from that on 1."""
    found = on_sizes(comm, (1, *sizes), function)
    if comm.is_root:
        return {size: distance(found[1], found[size]) for size in sizes}


def on_sizes(comm, sizes, function):
    """Return function(comm) on each of `sizes` ranks, by size."""
    found = {}
    for size in sizes:
        part = comm.mpi.Split(0 if comm.rank < size else 1, comm.rank)
        if comm.rank < size:
            found[size] = function(Communicator(part))
        comm.barrier()
    return found


def distance(one, other):
    """Return the largest difference of two dicts of tensors, and where it is.

    It is relative to the largest element of each tensor.  But a bias directly before a batch
    norm has no gradient but rounding: it, its optimizer state, and the running mean that takes
    it up (IDLE) are compared absolutely.
    """
    assert one.keys() == other.keys(), (one.keys(), other.keys())
    apart = {}
    for name in one:
        scale = one[name].abs().max().item()
        gap = (one[name] - other[name]).abs().max().item()
        assert math.isfinite(gap), f"{name} is not a number"
        absolute = name.startswith(IDLE) or scale < 1e-9
        apart[name] = gap if absolute else gap / scale
    worst = max(apart, key=apart.get)
    return [apart[worst], worst]


IDLE = "idle "
COUNTS = (400, 400, 400)  # labels of the data here, if they are asked for


def idle_parameters(network):
    """Return the names of biases before a batch norm and of its mean, in a chain of layers."""
    chain, prefix = network, ""
    for name in ("layers", "body"):  # of networks that are given labels
        if hasattr(network, name):
            chain, prefix = getattr(network, name), f"{name}."
    layers = [(k, m) for k, m in chain.named_children() if not isinstance(m, View)]
    found = set()
    for (name, _), (norm, after) in itertools.pairwise(layers):
        if isinstance(after, BatchNorm):
            found |= {f"{prefix}{name}.bias", f"{prefix}{norm}.running_mean"}
    return found


def everything(state):
    """Return the parameters, buffers, optimizer states and last losses by name."""
    found = {name: torch.tensor(loss) for name, loss in state.losses.items()}
    for name, player in (("G", state.game.G), ("D", state.game.D)):
        idle = idle_parameters(player.network)
        for key, value in player.network.state_dict().items():
            found[f"{IDLE if key in idle else ''}{name}.{key}"] = value
        keys = [key for key, _ in player.network.named_parameters()]
        for index, slots in player.optimizer.state_dict()["state"].items():
            prefix = IDLE if keys[index] in idle else ""
            for slot, value in slots.items():
                found[f"{prefix}{name}_optimizer.{keys[index]}.{slot}"] = torch.as_tensor(value)
    if state.ema is not None:
        idle = idle_parameters(state.game.G.network)
        for key, value in state.ema.network.state_dict().items():
            found[f"{IDLE if key in idle else ''}G_ema.{key}"] = value
    return {name: value.detach().clone().double() for name, value in found.items()}


@functools.cache
def glyphs():
    return draw_glyphs(1200)[0]


@functools.cache
def data_of(dataset):
    """Return data of the shape that a preset is for."""
    if dataset == "cifar10":
        return np.random.default_rng(0).integers(0, 256, (200, 3, 32, 32), np.uint8)
    return draw_points(500) if dataset == "uniform" else glyphs()


def run_steps(comm, steps, given, make_game=None, data=None, **more):
    """Train a new game for some steps; return its state."""
    torch.set_num_threads(1)  # two wait for each other where other programs want the cores
    config = new_config({"steps": max(1, steps), **given})
    data = data_of(config.dataset) if data is None else data
    counts = COUNTS if config.conditional != "no" else ()
    shape = data.shape[1:]
    built = (make_game or build_game)(comm, config, shape, torch.device("cpu"), counts)
    about = DataRecord("test", "nowhere", None, None, len(data), shape, "", label_counts=counts)
    state = RunState(config, about, built.game, built.ema, built.replay, built.adaptation)
    continue_steps(comm, state, steps, data, **more)
    check_replicas(comm, **state.networks)
    return state


def feed_of(comm, state, images, micro_batch=None, **more):
    labels = np.arange(len(images)) % 3 if state.data.classes else None
    dataset = Dataset("test", "nowhere", images, labels, "")
    return Feed(comm, state, dataset, torch.device("cpu"), micro_batch=micro_batch, **more)


def continue_steps(comm, state, steps, data, micro_batch=None, **how):
    """Train for some more steps; return the player that was updated in each."""
    supply, trained = Supply(comm, state.game, feed_of(comm, state, data, micro_batch), **how), []
    for _ in range(steps):
        before = state.progress.updates_D
        Turn(comm, state, supply, NEVER).play()
        trained.append("D" if state.progress.updates_D > before else "G")
    return "".join(trained)


def invariance(comm, cases):
    """Answer each case, (name, kind, numbers of ranks, steps, options), by on_each_size."""
    kinds = {
        "basic": lambda comm, steps, given: everything(run_steps(comm, steps, given)),
        "not idle": lambda comm, steps, given: not_idle(run_steps(comm, steps, given)),
        "parameters": lambda comm, steps, given: parameters(run_steps(comm, steps, given)),
        "batch norm": lambda comm, steps, given: everything(
            run_steps(comm, steps, given, make_game=batch_normalised_game)
        ),
        "gradients": gradients_of_one_update,
    }
    return {
        name: on_each_size(comm, sizes, functools.partial(kinds[kind], steps=steps, given=given))
        for name, kind, sizes, steps, given in cases
    }


def not_idle(state):
    return {k: v for k, v in everything(state).items() if not k.startswith(IDLE)}


def parameters(state):
    return {k: v for k, v in everything(state).items() if k.startswith(("G.", "D."))}


def gradients_of_one_update(comm, steps, given):
    """Return the gradients by name, without those that are zero but for rounding.

    They are biases before a batch norm and, at the start, the scale of a one-channel batch norm
    whose bias is still zero: the next batch norm undoes it.
    """
    state = run_steps(comm, steps, given)
    feed = feed_of(comm, state, data_of(state.config.dataset))
    at, batch = state.progress, state.config.batch
    (part,) = feed.parts
    real = feed.next_reals(at.images, *part)
    fake = state.game.fakes(feed.next_latents(at.latents, *part))
    discriminator_update(comm, state.game, [(real, fake)], False)
    latents = feed.next_latents(at.latents + batch, *part)
    generator_update(comm, state.game, [(None, state.game.generate(latents))], False)
    found = {}
    for name, player in (("G", state.game.G), ("D", state.game.D)):
        idle = idle_parameters(player.network) | one_channel_scales(player.network)
        for key, parameter in player.network.named_parameters():
            if key not in idle:
                found[f"{name}.{key}"] = parameter.grad.clone()
    return found


def in_bfloat16(comm, given):
    """Return how far an update's gradients in bf16 are from those in fp32, as a share of them, on
    all ranks and on one; the types of what is trained and saved; and what resumes_exactly() does.
    """
    found = {}
    for precision in ("fp32", "bf16"):
        options = {**given, "precision": precision}
        found[precision] = _flat(gradients_of_one_update(comm, 0, options))
        found[f"{precision} alone"] = _flat(gradients_of_one_update(comm.alone(), 0, options))
    state = run_steps(comm, 1, {**given, "precision": "bf16"})
    exact = found["fp32"]
    gaps = [
        ((found[name] - exact).norm() / exact.norm()).item()
        for name in ("fp32 alone", "bf16", "bf16 alone")
    ]
    tensors = [*state.game.G.network.state_dict().values(), state.game.G.bucket.buffer]
    tensors += [*state.game.D.network.state_dict().values(), state.game.D.bucket.buffer]
    kinds = sorted({str(tensor.dtype) for tensor in tensors})
    return gaps, kinds, resumes_exactly(comm, {**given, "precision": "bf16"})


def _flat(gradients):
    return torch.cat([gradient.flatten().double() for gradient in gradients.values()])


def one_channel_scales(network):
    layers = network.named_modules()
    norms = [(name, layer) for name, layer in layers if isinstance(layer, BatchNorm)]
    return {f"{name}.weight" for name, layer in norms if len(layer.weight) == 1}


def resumes_exactly(comm, given, **more):
    """Return how far 2 steps, a checkpoint and 2 more are from 4 steps, and what was trained."""
    whole = run_steps(comm, 4, given, **more)
    first = run_steps(comm, 2, {**given, "steps": 4}, **more)
    gathered = first.gather(comm)
    packed = comm.on_root(lambda: checkpoint.pack(gathered))
    saved = checkpoint.unpack(packed, Path("x"))
    rest = run_steps(comm, 0, {**given, "steps": 4})
    rest.load(saved)
    continue_steps(comm, rest, 2, data_of(rest.config.dataset), **more)
    same = (whole.progress, whole.balance) == (rest.progress, rest.balance)
    return [same, *distance(everything(whole), everything(rest))]


def shrink_networks():
    """Let dense and dcgan have few units and filters in this job: sums do not care how many.

    A probability that adapts does so within a few updates.
    """
    dense.HIDDEN, dcgan.FILTERS, dcgan.DENSE = 16, 8, 16
    Adaptation.SPEED = 2000


def beyond_the_originals(comm, cases):
    """Answer each case (name, steps, base, options): how far 3 ranks are from 1, how far a resumed
    run is from a whole one, and how far the options move the weights that they do not reshape.

    The networks are small ones.
    """
    shrink_networks()
    bases = {}  # cases share theirs
    return {name: _beyond(comm, bases, *case) for name, *case in cases}


def in_parts(comm, size, steps, cases):
    """Answer each case (name, options): how far a share in parts of `size` images on one rank is
    from whole shares on all, and how far a resumed run in parts is from a whole one.
    """
    shrink_networks()
    found = {}
    for name, given in cases:
        together = everything(run_steps(comm, steps, given))
        alone = everything(run_steps(comm.alone(), steps, given, micro_batch=size))
        resumed = resumes_exactly(comm, given, micro_batch=size)
        found[name] = [distance(together, alone), resumed]
    return found


def weights(found):
    """Return the parameters and buffers of `everything`, by their names in the plain networks."""
    names = {}
    for name, value in found.items():
        plain = name.removeprefix(IDLE)
        for more in ("layers.", "body.", "head.", "parametrizations."):
            plain = plain.replace(more, "")
        if name.startswith((IDLE, "G.", "D.")):
            names[plain.replace(".original", "")] = value
    return names


def _beyond(comm, bases, steps, base, given):
    def run(part, options):
        return everything(run_steps(part, steps, options))

    whole, key = {**base, **given}, repr((steps, base))
    if key not in bases:
        bases[key] = run(comm, base)
    found = on_sizes(comm, (1, 3), lambda part: run(part, whole))
    one, other = weights(found[3]), weights(bases[key])
    shared = [n for n in one if n in other and one[n].shape == other[n].shape]
    moved = distance(*({n: each[n] for n in shared} for each in (one, other)))
    gap = distance(found[1], found[3]) if comm.is_root else None
    return [gap, resumes_exactly(comm, whole), moved]


def who_was_trained(comm, steps, given):
    state = run_steps(comm, 0, {**given, "steps": steps})
    return continue_steps(comm, state, steps, data_of(state.config.dataset))


def trained_on_each_size(comm, largest, steps, given):
    """Return who was trained in each step, on 1 .. largest ranks."""
    sizes = range(1, largest + 1)
    found = on_sizes(comm, sizes, lambda part: who_was_trained(part, steps, given))
    return list(found.values())


def state_round_trip(comm):
    """Return whether all of a state comes back from what a checkpoint holds."""
    state = run_steps(comm, 2, {"batch": 30})
    fresh = run_steps(comm, 0, {"batch": 30, "seed": 5})
    fresh.load(checkpoint.unpack(checkpoint.pack(state.gather(comm)), Path("x")))
    return [
        fresh.progress == state.progress and state.progress.updates_D == 4,
        fresh.window == state.window and len(state.window.totals) == 17,
        distance(everything(fresh), everything(state))[0] == 0,
    ]


def global_generators_stand_still(comm):
    """Return whether torch's and numpy's global generators stand still during a step."""
    everything_on = {"conditional": "auxiliary", "replay": 1, "instance_noise": 0.2}
    everything_on |= {"g_dropout": 0.2, "flip": 0.1, "r1": 0.5, "gradient_penalty": 1.0}
    everything_on |= {"ema": 0.1, "d_norm": "spectral"}
    state = run_steps(comm, 2, {"batch": 30, **everything_on})
    supply = Supply(comm, state.game, feed_of(comm, state, glyphs()))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    Turn(comm, state, supply, NEVER).play()
    after = torch.get_rng_state(), np.random.get_state()[1]
    return [bool((before[0] == after[0]).all()), bool((before[1] == after[1]).all())]


def extremes_of(comm, values):
    try:
        return [each.tolist() for each in comm.extremes(np.array(values[comm.rank]))]
    except ValueError as error:
        return str(error)
