"""Training in rounds: each rank by itself, on data that may be its own, then the average of all."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch

from gan_mpi.cluster.device import room_for_data
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.errors import UserError
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.replicas import broadcast_network, check_replicas, compute_alike
from gan_mpi.runs.segments import Segment
from gan_mpi.sites.build import build_sites, require_same_count
from gan_mpi.sites.data import share_site
from gan_mpi.sites.state import SitesState
from gan_mpi.sites.validation import Validation, weighted_means
from gan_mpi.training.feed import Feed
from gan_mpi.training.run import Run
from gan_mpi.training.start import Start
from gan_mpi.training.supply import Supply
from gan_mpi.training.turn import Turn

FIGURES = ("loss_G", "loss_D", "validation_G", "validation_D")  # of a round


@dataclass(frozen=True)
class Report:
    """What a site says of its part of a round: what it did, and its mean figures."""

    images: int
    latents: int
    updates: dict[str, int]  # by player
    means: dict[str, float]
    losses: dict[str, float]
    weight: float
    stop: bool
    validated: int = 0  # test images
    validation: dict[str, float] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, float]:
        """The figures of FIGURES."""
        return {k: v for k, v in {**self.means, **self.validation}.items() if k in FIGURES}


class Sites:
    """Each rank trains by itself for a round; then the weights of all are averaged.

    Between two rounds' ends nothing crosses, and a stop that is asked for waits for the end.
    """

    dataset: Dataset
    shared: bool
    state: SitesState

    def __init__(self, comm: Communicator, start: Start) -> None:
        self.comm, self.start = comm, start

    @property
    def survivor(self) -> None:
        """Nothing: a site's data are gone with it."""

    def open(self, device: torch.device, phases: Phases) -> SitesState:
        """Read this site's data, and return the state of all sites.  Collective."""
        comm, start, self.device = self.comm, self.start, device
        comm.alike(lambda: require_same_count(start, comm.world_size))
        self.dataset, self.shared = share_site(comm, start.source)
        phases.end("data")
        self.state = build_sites(comm, start, self.dataset, device)
        self.mirrored = not compute_alike(comm, device)
        local, own_data = self.state.local, self.state.own_data
        room, parts = room_for_data(device, comm.local_size), start.micro_batch
        self.feed = Feed(comm, local, self.dataset, device, own_data, parts, room)
        self.supply = Supply(self.state.alone, local.game, self.feed)
        self.validation = Validation(self.state, self.feed)
        self.share = self.feed.hi - self.feed.lo
        phases.end("networks")
        return self.state

    def lines(self) -> list[str]:
        """Say how long rounds are, and on which data each site trains."""
        state = self.state
        every, sites = state.config.every, state.data.sites
        of_each = [
            f"site {rank}: {site.count} images from {site.source}"
            for rank, site in enumerate(sites)
        ]
        own = "each trains by itself, on data of its own"
        whole = (
            f"weights are averaged after rounds of {state.length} steps (--every {every}): the "
            f"result depends on the number of sites, here {len(sites)}; "
            f"{own if state.own_data else 'all share the data'}."
        )
        linear = self.start.about_linear if self.device.type == "cpu" else []
        return [whole, *(of_each if state.own_data else []), *self.feed.about(), *linear]

    def facts(self) -> Segment:
        """Say what decides the last bits besides numbers of ranks and versions."""
        parts = self.start.micro_batch
        return Segment() if parts is None else Segment(micro_batch=parts)

    def close(self) -> None:
        """Draw nothing more of the data."""
        self.feed.close()

    def advance(self, run: Run) -> bool:
        """Train a round at every site and average; return whether to stop.  Collective."""
        if any(self.comm.allgather(run.stop.requested)):
            return True
        state, before = self.state, self.state.progress.step
        steps = min(state.length - before % state.length, state.config.steps - before)
        counted = asdict(state.local.progress)
        with self.comm.clock.phase("communication"):
            self.comm.agree(lambda: self._train(before, steps, run.stop))
            given = state.average.exchange()
            if self.mirrored:
                for network in state.networks.values():
                    broadcast_network(self.comm, network)
            check_replicas(self.comm, **state.networks)
        state.progress.advance(step=steps)
        validates = run.status_is_due(before) or run.is_done
        reports = self.comm.allgather(self._report(counted, validates, run.stop))
        means = self._count(reports)
        state.round_figures = self._figures(reports, means, given)
        return any(report.stop for report in reports)

    def _train(self, before: int, steps: int, stop: StopRequest) -> None:
        """Do this site's turns of the next `steps`, perhaps not all.

        Raises UserError, naming the site.
        """
        local, offset = self.state.local, before % self.state.length
        with self.comm.clock.phase(""):  # the site's own clock counts them
            try:
                for step in range(before, before + min(steps, self.state.turns - offset)):
                    local.stand_after(step)
                    Turn(self.state.alone, local, self.supply, stop).play()
                local.books.settle()
            except UserError as error:
                raise error.retold(f"site {self._name()} {error}", error.exit_code) from None

    def _name(self) -> str:
        """Return how people know this site: by its rank, and its data if they are its own."""
        rank, state = self.comm.rank, self.state
        return f"{rank} ({state.data.sites[rank].source})" if state.own_data else f"{rank}"

    def _report(self, counted: dict[str, int], validates: bool, stop: StopRequest) -> Report:
        """Return what this site says of a round, and begin to count anew."""
        local, batch = self.state.local, self.state.config.batch
        now = asdict(local.progress)
        done = {name: now[name] - counted[name] for name in now}
        means, losses = local.window.means(), local.losses
        local.begin_window()
        validates = validates and self.validation.count > 0
        return Report(
            images=done["images"] // batch * self.share,
            latents=done["latents"] // batch * self.share,
            updates={name: done[f"updates_{name}"] for name in "DG"},
            means=means,
            losses=losses,
            weight=self.state.average.weight,
            stop=stop.requested,
            validated=self.validation.count if validates else 0,
            validation=self.validation.measure() if validates else {},
        )

    def _count(self, reports: Sequence[Report]) -> dict[str, float]:
        """Put what all sites say into the common state, alike on all ranks; return their means."""
        state = self.state
        most = {name: max(report.updates[name] for report in reports) for name in "DG"}
        state.progress.advance(
            images=sum(report.images for report in reports),
            latents=sum(report.latents for report in reports),
            updates_D=most["D"],
            updates_G=most["G"],
        )
        for name, updates in most.items():
            state.window.count_updates(name, updates)
        means = weighted_means([(report.weight, report.means) for report in reports])
        means |= weighted_means([(report.validated, report.validation) for report in reports])
        state.window.add(means)
        state.losses = weighted_means([(report.weight, report.losses) for report in reports])
        return means

    def _figures(
        self, reports: Sequence[Report], means: dict[str, float], given: int
    ) -> Mapping[str, object]:
        """Return what stats.jsonl says of a round: of each site, and of all."""
        state = self.state
        return {
            "round": -(-state.progress.step // state.length),
            "bytes_of_a_round": given,
            "sites": [
                {"images": site.count, **report.figures}
                for site, report in zip(state.data.sites, reports, strict=True)
            ],
            "all_sites": {k: v for k, v in means.items() if k in FIGURES},
        }
