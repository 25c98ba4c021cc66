"""Both losses of the common networks on the test images of each site."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from gan_mpi.datasets.dataset import Dataset
from gan_mpi.game.players import Game
from gan_mpi.game.updates import measure
from gan_mpi.sites.state import SitesState
from gan_mpi.streams import Purpose
from gan_mpi.training.feed import Feed

PURPOSES = Purpose.VALIDATION, Purpose.VALIDATION_DROPOUT, Purpose.VALIDATION_LABELS
MOST = 1000  # test images of a site


class Validation:
    """The test images of this site, if it has any whose labels the networks know."""

    def __init__(self, state: SitesState, feed: Feed) -> None:
        self.state, self.feed, self.test = state, feed, _with_known_labels(state)
        self.count = 0 if self.test is None else min(MOST, len(self.test.images))

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Return validation_G and validation_D, as after training."""
        state, test = self.state, self.test
        assert test is not None
        game = Game(state.game.G, state.game.D, state.game.loss)
        networks = [game.G.network, game.D.network]
        size, batches = max(hi - lo for lo, hi in self.feed.parts), []
        for network in networks:
            network.eval()
        for lo in range(0, self.count, size):
            hi = min(lo + size, self.count)
            labels = None if test.labels is None else test.labels[lo:hi]
            real = self.feed.reals(test.images[lo:hi].copy(), labels, lo)
            fake = game.fakes(self.feed.latents(PURPOSES, lo, hi))
            figures = measure(state.alone, game, [(real, fake)])
            loss_D = game.loss.discriminator(figures["loss_real"], figures["loss_fake"])
            batches.append((hi - lo, {"validation_G": figures["loss_G"], "validation_D": loss_D}))
        for network in networks:
            network.train()
        return weighted_means(batches)


def _with_known_labels(state: SitesState) -> Dataset | None:
    """Return the test images, with labels that the networks know if they are given any."""
    test, classes = state.test, state.data.classes
    if test is None or (classes and test.labels is None):
        return None
    if not classes or test.labels is None:
        return replace(test, labels=None)
    known = test.labels < classes
    return replace(test, images=test.images[known], labels=test.labels[known])


def weighted_means(each: Sequence[tuple[float, dict[str, float]]]) -> dict[str, float]:
    """Return the weighted mean of each figure over those that have it."""
    means = {}
    for name in dict.fromkeys(name for _, figures in each for name in figures):
        those = [(weight, figures[name]) for weight, figures in each if name in figures]
        total = sum(weight for weight, _ in those)
        means[name] = sum(weight * value for weight, value in those) / total
    return means
