"""What updates are made of: reals, latents and fakes, some of them made before their update."""

from collections.abc import Callable, Iterable, Iterator

from gan_mpi.config.values import is_adaptive
from gan_mpi.game.batch import Batch
from gan_mpi.game.players import Game
from gan_mpi.game.updates import Learned, learn_reals
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.overlap import Updated, arrange_overlap
from gan_mpi.training.feed import Feed


class Supply:
    """This rank's shares of what updates need, in the parts that they go through the networks in.

    What is made ahead is what the next update would make itself: the positions of its streams are
    known, and the update under way changes no weight that it comes from.  So nothing but time
    depends on whether it is.
    """

    def __init__(
        self,
        comm: Communicator,
        game: Game,
        feed: Feed,
        overlap: bool | None = None,
        explains: bool = False,
        direct: bool = False,
    ) -> None:
        """`overlap` and `direct` are what was asked for, as arrange_overlap() has it."""
        self.comm, self.game, self.feed = comm, game, feed
        players: dict[str, Updated] = {"G": game.G, "D": game.D}
        ahead = _what_may_be_made_ahead(feed, explains)
        whole = len(feed.parts) == 1
        self.overlap = arrange_overlap(comm, players, ahead, overlap, whole, direct, explains)
        self._ahead: dict[tuple[str, int], Batch] = {}  # by what it is and where its stream begins
        self._learned: dict[int, Learned] = {}  # by the position of the reals
        self._kept: tuple[int, Batch] | None = None  # the last reals of pairs, and their position

    def reals(self, position: int) -> Iterable[Batch]:
        """Return the reals from a position of their stream on, as D sees them.

        Those that a loss of pairs compares with samples too are read once, if they are in one part.
        """
        made = self._made("reals", position)
        if not made and self._kept is not None and self._kept[0] == position:
            return [self._kept[1]]
        reals = made or self._parts(self._seen, position)
        return self._keep(reals, position) if self.game.loss.is_paired else reals

    def _keep(self, reals: Iterable[Batch], position: int) -> Iterable[Batch]:
        """Return reals from a position on, and keep them if they are in one part."""
        if len(self.feed.parts) > 1:
            return reals
        (batch,) = reals
        self._kept = position, batch
        return [batch]

    def _seen(self, position: int, lo: int, hi: int) -> Batch:
        reals = self.feed.next_reals(position, lo, hi)
        with self.comm.clock.phase("forward"):
            return self.game.seen(reals)

    def latents(self, position: int) -> Iterable[Batch]:
        """Return the latents from a position of their stream on."""
        return self._made("latents", position) or self._parts(self.feed.next_latents, position)

    def fakes(self, position: int, again: bool = False) -> Iterable[Batch]:
        """Return fakes for D, of the latents from a position on.  Collective (batch norm).

        If D is updated `again` before G is, and G has batch norm, those of the next batch are drawn
        with them: in one pass, which reads G's weights once and shares batch norm's messages.
        """
        if made := self._made("fakes", position):
            return made
        if not (again and self.game.draws_at_once):
            return self._drawn(self.game.fakes, position)
        following = position + self.feed.config.batch
        latents = [*self.latents(position), *self.latents(following)]
        with self.comm.clock.phase("forward"):
            fakes, self._ahead["fakes", following] = self.game.all_fakes(latents)
        return [fakes]

    def samples(self, position: int) -> Iterable[Batch]:
        """Return what fakes() does, for G to learn from.  Collective (batch norm)."""
        return self._made("samples", position) or self._drawn(self.game.generate, position)

    def learned(self, position: int) -> Learned | None:
        """Return what D has made of the reals from a position on, if that was ahead."""
        return self._learned.pop(position, None)

    def forget(self) -> None:
        """Drop what was made ahead."""
        self._ahead.clear()
        self._learned.clear()
        self._kept = None

    def _made(self, what: str, position: int) -> list[Batch]:
        """Return what was made ahead; empty if it was not."""
        made = self._ahead.pop((what, position), None)
        return [] if made is None else [made]

    def _parts(self, of: Callable[[int, int, int], Batch], position: int) -> Iterator[Batch]:
        for lo, hi in self.feed.parts:
            with self.comm.clock.phase("data"):
                part = of(position, lo, hi)
            self.comm.under_way.look()
            yield part

    def _drawn(self, draw: Callable[[Batch], Batch], position: int) -> Iterator[Batch]:
        for latents in self.latents(position):
            with self.comm.clock.phase("forward"):
                part = draw(latents)
            yield part

    def make_ahead(self, updated: str, following: str, images: int, latents: int) -> None:
        """Begin the update of `following` while the sums of that of `updated` go on; both G or D.

        `images` and `latents` are where its batches begin in their streams.  Its fakes may be there
        already, drawn with those of this update.
        """
        self._ahead = {at: made for at, made in self._ahead.items() if at == ("fakes", latents)}
        self._learned.clear()
        if not self.overlap.hides or len(self.feed.parts) > 1:
            return
        kept = self._ahead
        if ("fakes", latents) not in kept:
            (kept["latents", latents],) = self.latents(latents)
        if following == "D":
            (kept["reals", images],) = self.reals(images)
        if updated == "D" and self.overlap.allows("G"):
            what, make = {"D": ("fakes", self.fakes), "G": ("samples", self.samples)}[following]
            (kept[what, latents],) = make(latents)
        elif updated == "G" and following == "D" and self.overlap.allows("D"):
            self._learned[images] = learn_reals(self.comm, self.game, kept["reals", images])


def _what_may_be_made_ahead(feed: Feed, explains: bool) -> dict[str, str]:
    """Return, by who could compute while the other's gradients are summed, why it may not."""
    config = feed.config
    if explains:
        return dict.fromkeys("GD", "are shown one update after the other (--explain)")
    if config.schedule == "balance":
        return dict.fromkeys("GD", "are chosen from by sums of both (--schedule balance)")
    if feed.all_in_parts:
        return dict.fromkeys("GD", "go through the networks in parts (--micro-batch)")
    ahead = {}
    if "D" in config.turn:
        ahead["G"] = ""
    if len(set(config.turn)) == 2:
        ahead["D"] = ""
        if config.d_update == "separate":
            ahead["D"] = "learns from fakes before reals (--d-update separate)"
        elif is_adaptive(config.augment):
            ahead["D"] = "sees what the sums before say (--augment adaptive)"
    return ahead
