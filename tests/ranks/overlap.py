"""Runs that compute while gradients are summed, beside such that wait, on the ranks of tests."""

from gan_mpi.game.players import Game
from gan_mpi.parallel import bucket
from gan_mpi.training.supply import Supply
from ranks.training import (
    distance,
    everything,
    on_sizes,
    resumes_exactly,
    run_steps,
    shrink_networks,
)


def overlapped(comm, sizes, steps, cases):
    """Answer each case (name, options): on each of `sizes` ranks, how far a run that overlaps is
    from one that waits for each message at once, and from one that sends no pieces; how many sums
    each sends; and what was made ahead.

    Networks are small, and so are pieces.
    """
    shrink_networks()
    bucket.LEAST, bucket.MESSAGE = 100, 5000
    found = {}
    for name, given in cases:
        by_size = on_sizes(comm, sizes, lambda part, given=given: _overlapped(part, steps, given))
        found[name] = {size: by_size.get(size) for size in sizes}
    return found


def _overlapped(comm, steps, given):
    """Return gaps, what each run sends, what was made ahead, the pieces that crossed from within a
    backward, what looking ahead sends, and how far a resumed run is from a whole one.
    """
    parts = {"micro_batch": given["micro_batch"]} if "micro_batch" in given else {}
    given = {name: value for name, value in given.items() if name != "micro_batch"}
    ahead, at_once, runs, messages, within, sent_ahead = [], set(), {}, {}, [], []
    plain = Supply._made, Supply.make_ahead, bucket.GradientBucket.sum, Game.all_fakes

    def made(self, what, position):
        kept = plain[0](self, what, position)
        if not (what == "fakes" and at_once.intersection(each.first for each in kept)):
            ahead.extend([what] * len(kept))
        return kept

    def all_fakes(self, latents):
        fakes = plain[3](self, latents)
        at_once.update(each.first for each in fakes)
        return fakes

    def make_ahead(self, *arguments):
        before = len(comm.messages)
        plain[1](self, *arguments)
        sent_ahead.append(len(comm.messages) - before)

    def sum_(self, *arguments):
        within.append(self._sent)
        plain[2](self, *arguments)

    Supply._made, Supply.make_ahead, bucket.GradientBucket.sum = made, make_ahead, sum_
    Game.all_fakes = all_fakes
    for overlap in (True, False, None):
        comm.messages = []
        at_once.clear()
        run = run_steps(comm, steps, given, overlap=overlap, **parts)
        runs[overlap], messages[overlap] = everything(run), comm.messages
        comm.messages = None
    Supply._made, Supply.make_ahead, bucket.GradientBucket.sum, Game.all_fakes = plain
    resumed = resumes_exactly(comm, given, overlap=True, **parts)
    return {
        "apart": [distance(runs[True], runs[other])[0] for other in (False, None)],
        "messages": list(messages.values()),
        "ahead": sorted(set(ahead)),
        "within": sum(within),
        "sent ahead": sum(sent_ahead),
        "resumed": [resumed[0], resumed[1]],
    }


def drawn_at_once(comm, steps, cases):
    """Answer each case (name, options), with overlap and without: how far a run is from one in
    which each update of D draws its fakes, and how many messages fewer it sends.
    """
    shrink_networks()
    apart = property(lambda game: False)
    return {
        name: {
            kind: _beside(comm, steps, given, apart, kind == "overlap")
            for kind in ("overlap", "no overlap")
        }
        for name, given in cases
    }


def _beside(comm, steps, given, apart, overlap):
    runs, sent, at_once = [], [], Game.draws_at_once
    for way in (at_once, apart):
        Game.draws_at_once = way
        comm.messages = []
        runs.append(everything(run_steps(comm, steps, given, overlap=overlap)))
        sent.append(len(comm.messages))
    Game.draws_at_once, comm.messages = at_once, None
    return distance(*runs), sent[1] - sent[0]
