"""Training in rounds: each rank by itself, on data that may be its own, then the average of all."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from gan_mpi.datasets.dataset import Dataset
from gan_mpi.game.players import Game
from gan_mpi.game.updates import measure
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.replicas import check_replicas
from gan_mpi.sites.state import SitesState
from gan_mpi.streams import Purpose
from gan_mpi.training.feed import Feed
from gan_mpi.training.progress import Window
from gan_mpi.training.turn import take_step

FIGURES = ("loss_G", "loss_D", "validation_G", "validation_D")  # of a round
VALIDATION = Purpose.VALIDATION, Purpose.VALIDATION_DROPOUT, Purpose.VALIDATION_LABELS
VALIDATED = 1000  # test images of a site, at most


class Rounds:
    """The rounds of a run of sites.  All ranks hold one.

    Between two rounds' ends nothing crosses, and a stop that is asked for waits for the end.
    """

    def __init__(
        self,
        comm: Communicator,
        state: SitesState,
        dataset: Dataset,
        stop: StopRequest,
        is_due: Callable[[int], bool],
    ) -> None:
        """Train on this rank's `dataset`; validate where is_due(step before the round)."""
        self.comm, self.state, self.stop, self.is_due = comm, state, stop, is_due
        self.device = next(state.game.G.network.parameters()).device
        self.feed = Feed(comm, state.local, dataset, self.device, state.own_data)
        self.test = _with_known_labels(state)
        self.share = self.feed.hi - self.feed.lo

    def play(self) -> bool:
        """Train a round at every site and average; return whether to stop.  Collective."""
        if any(self.comm.allgather(self.stop.requested)):
            return True
        state, before = self.state, self.state.progress.step
        steps = min(state.length - before % state.length, state.config.steps - before)
        counted = asdict(state.local.progress)
        waited = self.comm.seconds
        done = self.comm.agree(lambda: self._train(before, steps))
        given = state.average.exchange()
        check_replicas(self.comm, **state.game.networks)
        self.comm.seconds = waited + time.perf_counter() - done
        state.progress.step += steps
        reports = self.comm.allgather(self._report(before, counted))
        means = self._count(reports)
        state.more = {
            "round": -(-state.progress.step // state.length),
            "bytes_of_a_round": given,
            "sites": self._figures(reports),
            "all_sites": {k: v for k, v in means.items() if k in FIGURES},
        }
        return any(report["stop"] for report in reports)

    def _train(self, before: int, steps: int) -> float:
        """Do this site's turns of the next `steps`, perhaps not all; return when it had done."""
        local, offset = self.state.local, before % self.state.length
        for step in range(before, before + min(steps, self.state.turns - offset)):
            local.progress.step = step
            take_step(self.state.alone, local, self.feed, self.stop)
        return time.perf_counter()

    def _report(self, before: int, counted: dict[str, int]) -> dict[str, Any]:
        """Return what this site says of a round, and begin to count anew."""
        local = self.state.local
        now = asdict(local.progress)
        made = {name: now[name] - counted[name] for name in now}
        batch = self.state.config.batch
        report = {
            "images": made["images"] // batch * self.share,
            "latents": made["latents"] // batch * self.share,
            "updates": {name: made[f"updates_{name}"] for name in "DG"},
            "means": local.window.means(),
            "losses": local.losses,
            "weight": self.state.average.weight,
            "stop": self.stop.requested,
        }
        local.window = Window()
        step, steps = self.state.progress.step, self.state.config.steps
        if (
            self.test is not None
            and len(self.test.images)
            and (self.is_due(before) or step == steps)
        ):
            report["validated"] = min(VALIDATED, len(self.test.images))
            report["validation"] = self._validate(self.test)
        return report

    def _count(self, reports: list[dict[str, Any]]) -> dict[str, float]:
        """Put what all sites say into the common state, alike on all ranks; return their means."""
        state, progress = self.state, self.state.progress
        progress.images += sum(report["images"] for report in reports)
        progress.latents += sum(report["latents"] for report in reports)
        most = {n: max(report["updates"][n] for report in reports) for n in "DG"}
        progress.updates_D += most["D"]
        progress.updates_G += most["G"]
        for name, updates in most.items():
            state.window.updates[name] += updates
        means = weighted([(r["weight"], r["means"]) for r in reports])
        validation = weighted(
            [(r["validated"], r["validation"]) for r in reports if "validation" in r]
        )
        means |= validation
        state.window.add(means)
        state.losses = weighted([(r["weight"], r["losses"]) for r in reports])
        return means

    def _figures(self, reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return what is written of each site's round."""
        return [
            {
                "images": site["count"],
                **{k: v for k, v in r["means"].items() if k in FIGURES},
                **r.get("validation", {}),
            }
            for site, r in zip(self.state.data["sites"], reports, strict=True)
        ]

    @torch.no_grad()
    def _validate(self, test: Dataset) -> dict[str, float]:
        """Return both losses of the common networks on test images of this site, after a round."""
        game, local = self.state.game, self.state.local
        plain = Game(game.G, game.D, game.loss)
        networks = [game.G.network, game.D.network]
        count = min(VALIDATED, len(test.images))
        found = []
        for network in networks:
            network.eval()
        for lo in range(0, count, self.share):
            hi = min(lo + self.share, count)
            labels = None if test.labels is None else test.labels[lo:hi]
            real = self.feed.reals(test.images[lo:hi].copy(), labels, lo)
            latents = self.feed.latents(VALIDATION, lo, hi)
            figures = measure(self.state.alone, plain, real, plain.fakes(latents))
            terms = figures["loss_real"], figures["loss_fake"]
            loss_D = local.game.loss.discriminator(*terms)
            found.append((hi - lo, {"validation_G": figures["loss_G"], "validation_D": loss_D}))
        for network in networks:
            network.train()
        return weighted(found)


def _with_known_labels(state: SitesState) -> Dataset | None:
    """Return the test images, with labels that the networks know if they are given any."""
    test, classes = state.test, len(state.data.get("label_counts", ()))
    if test is None or (classes and test.labels is None):
        return None
    if not classes or test.labels is None:
        return replace(test, labels=None)
    known = test.labels < classes
    return replace(test, images=test.images[known], labels=test.labels[known])


def weighted(each: Sequence[tuple[float, dict[str, float]]]) -> dict[str, float]:
    """Return the weighted mean of each figure over those that have it."""
    found = {}
    for name in dict.fromkeys(name for _, figures in each for name in figures):
        those = [(weight, figures[name]) for weight, figures in each if name in figures]
        total = sum(weight for weight, _ in those)
        found[name] = sum(weight * value for weight, value in those) / total
    return found
