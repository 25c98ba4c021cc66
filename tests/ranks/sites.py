"""Runs of sites on the ranks of tests."""

import math
import os
import pickle
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from mpi4py import MPI
from torch import nn

from gan_mpi.config.resolve import new_config
from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.errors import UserError
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks import dcgan, dense
from gan_mpi.networks.build import ARCHITECTURES
from gan_mpi.networks.layers import View, last_layer
from gan_mpi.parallel.batch_norm import BatchNorm
from gan_mpi.sites.average import WeightAverage, state_tensors
from ranks.programs import NEVER, train_outcomes
from ranks.small_networks import batch_normalised_game


def small_lightning(latent_dim, shape, tanh):
    """Return a generator like lightning's, of a hundredth of its size."""
    return nn.Sequential(
        nn.Linear(latent_dim, 12),
        nn.LeakyReLU(0.2),
        nn.Linear(12, 16),
        BatchNorm(16, eps=0.8),
        nn.LeakyReLU(0.2),
        nn.Linear(16, math.prod(shape)),
        last_layer(tanh),
        View(*shape),
    )


def on_small_networks(comm, calls):
    """Answer several calls while lightning is small: checkpoints of it take long."""
    small = replace(ARCHITECTURES["lightning"], generator=small_lightning)
    small = replace(small, discriminator=dense.dense_discriminator)
    with patch.dict(ARCHITECTURES, lightning=small):
        return [globals()[name](comm, *arguments) for name, *arguments in calls]


def on_small_dcgan(comm, runs, folder):
    """Call train() for each dict of options while dcgan is small: checkpoints of it take long."""
    dcgan.FILTERS, dcgan.DENSE = 8, 16
    return train_outcomes(comm, runs, folder)


def train_on_first(comm, size, runs, folder):
    """Call train() for each dict of options on the first `size` ranks."""
    part = comm.mpi.Split(0 if comm.rank < size else 1, comm.rank)
    found = None
    if comm.rank < size:
        found = train_outcomes(Communicator(part), runs, folder)
    comm.barrier()
    return found


class Stop(SimpleNamespace):
    """A stop that rank 1 is asked for in its so-many-th update."""

    def __init__(self, comm, calls):
        super().__init__(reason=None, collapsed=False, left=calls, rank=comm.rank)

    @property
    def requested(self):
        self.left -= 1
        return self.rank == 1 and self.left < 0

    def require_gone(self):
        """There is no file."""


class Failure(Stop):
    """A failure of rank 1 in its so-many-th update."""

    @property
    def requested(self):
        self.left -= 1
        if self.rank == 1 and self.left < 0:
            raise UserError("diverged: the loss of D is nan", exit_code=76)
        return False


def fail_at(comm, calls, given, folder):
    """Call train() and let rank 1 alone fail in a round; return what each rank raises."""
    from gan_mpi.programs.train import train

    os.chdir(folder)
    try:
        return train(comm, {"quiet": True, **given}, Failure(comm, calls))
    except UserError as error:
        return [str(error), error.exit_code, error.on_all_ranks]


def train_until(comm, calls, given, folder):
    """Call train() and ask rank 1 to stop after so many looks; return the exit code."""
    from gan_mpi.programs.train import train

    os.chdir(folder)
    return train(comm, {"quiet": True, **given}, Stop(comm, calls))


class Spy:
    """An MPI communicator that looks at all that this rank gives to others."""

    def __init__(self, mpi):
        self.mpi, self.weights, self.given, self.seen = mpi, [], [], b""

    def __getattr__(self, name):
        found = getattr(self.mpi, name)
        if not callable(found):
            return found

        def call(*arguments, **options):
            for each in arguments:
                if isinstance(each, np.ndarray):
                    self._look(name, each.tobytes())
                elif not isinstance(each, (int, MPI.Op)) or isinstance(each, bool):
                    self._look(name, pickle.dumps(each))
            return found(*arguments, **options)

        return call

    def Allreduce(self, send, receive, op):
        if receive.dtype.kind == "f" and op == MPI.SUM:
            self.weights.append(receive.nbytes)
        else:
            self._look("Allreduce", receive.tobytes())
        return self.mpi.Allreduce(send, receive, op)

    def _look(self, name, data):
        self.given.append((name, len(data)))
        self.seen += data


def what_crosses(comm, given, folder):
    """Train; return the bytes of each sum of floats, those of all else by function,
    and how many of this site's images are in them, as bytes.
    """
    from gan_mpi.programs.train import train

    os.chdir(folder)
    comm.mpi = Spy(comm.mpi)
    try:
        train(comm, {"quiet": True, **given}, NEVER)
    finally:
        spy, comm.mpi = comm.mpi, comm.mpi.mpi
    mine = given["datadir"].replace("{rank}", str(comm.rank))
    images = load_dataset(Source(mine)).images
    found = sum(image[0, 10].tobytes() in spy.seen for image in images)
    taken = {name: sum(n for other, n in spy.given if other == name) for name, _ in spy.given}
    return spy.weights, taken, found


def spied(comm):
    """Return what a spy sees of an array and of an object that are sent on."""
    spy = Spy(comm.mpi)
    image = np.arange(28, dtype=np.uint8)
    spy.allgather({"image": image})
    spy.bcast([image] if comm.is_root else None, 0)
    buffer = image.copy()
    spy.Bcast(buffer, 0)
    return [spy.seen.count(image.tobytes()), len(spy.given)]


def weighted_average(comm, kind):
    """Average networks of which rank r holds r + 1 everywhere, rank 0 with weight 1/4 of two.

    Return all values that are found after it, of networks and of optimizer states.
    """
    config = new_config({"batch": 4, "optimizer": "adam", "precision": "fp64"})
    game = batch_normalised_game(comm.alone(), config, (1, 28, 28), torch.device("cpu")).game
    networks, players = {"G": game.G.network, "D": game.D.network}, (game.G, game.D)
    for player in (game.G, game.D):
        for parameter in player.network.parameters():
            parameter.grad.fill_(1.0)
        player.lr = 0.1
        player.update()
    with torch.no_grad():
        for player in (game.G, game.D):
            for tensor in player.network.state_dict().values():
                tensor.fill_(comm.rank + 1.0)
            for tensor in state_tensors(player.optimizer, player.network):
                tensor.fill_(comm.rank + 1.0)
    average = WeightAverage(comm, networks, players, [0.25, 0.75][comm.rank], kind)
    given = average.exchange()
    values = {
        value.item()
        for network in networks.values()
        for tensor in network.state_dict().values()
        for value in (tensor.min(), tensor.max())
    }
    states = {
        value.item()
        for player in (game.G, game.D)
        for tensor in state_tensors(player.optimizer, player.network)
        for value in (tensor.min(), tensor.max())
    }
    return sorted(values), sorted(states), given


def block_momentum(comm, momentum, changes):
    """Change all weights by changes[round][rank] in each round; return one weight after each."""
    config = new_config({"batch": 4, "precision": "fp64"})
    game = batch_normalised_game(comm.alone(), config, (1, 28, 28), torch.device("cpu")).game
    networks, players = {"G": game.G.network, "D": game.D.network}, (game.G, game.D)
    parameters = [*game.G.network.parameters(), *game.D.network.parameters()]
    with torch.no_grad():
        for parameter in parameters:
            parameter.fill_(1.0)
    average = WeightAverage(comm, networks, players, 1 / comm.world_size, "local", momentum)
    found = []
    for each in changes:
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(each[comm.rank])
        average.exchange()
        found.append(parameters[-1].flatten()[0].item())
        assert all(bool((p == parameters[-1].flatten()[0]).all()) for p in parameters)
    return found
