"""Small convolutional networks with batch norm, for tests."""

from torch import nn

from gan_mpi.game.losses import LOSSES
from gan_mpi.game.players import Game, make_player
from gan_mpi.networks.generator import Generator
from gan_mpi.networks.weights import draw_weights, xavier_as_cntk
from gan_mpi.parallel.batch_norm import BatchNorm, connect_batch_norm
from gan_mpi.parallel.replicas import broadcast_network
from gan_mpi.streams import Purpose
from gan_mpi.training.build import Built


class SmallGenerator(Generator):
    def __init__(self, latent_dim):
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(latent_dim, 4 * 49), BatchNorm(4 * 49), nn.ReLU())
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
        return self.layers(images)


def batch_normalised_game(comm, config, shape, device, known=()):
    players = []
    for network, optimizer, purpose in (
        (SmallGenerator(config.latent_dim), config.G, Purpose.WEIGHTS_G),
        (SmallDiscriminator(), config.D, Purpose.WEIGHTS_D),
    ):
        network.double()
        draw_weights(network, config.seed, purpose, xavier_as_cntk)
        connect_batch_norm(comm, network)
        broadcast_network(comm, network)
        players.append(make_player(network, optimizer, config.batch))
    return Built(Game(*players, LOSSES[config.loss]), None, None)
