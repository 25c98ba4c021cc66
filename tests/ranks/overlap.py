"""Runs that compute while gradients are summed, beside such that wait, on the ranks of tests."""

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
    ahead, runs, messages, within, sent_ahead = [], {}, {}, [], []
    plain = Supply._made, Supply.make_ahead, bucket.GradientBucket.sum

    def made(self, what, position):
        kept = plain[0](self, what, position)
        ahead.extend([what] * len(kept))
        return kept

    def make_ahead(self, *arguments):
        before = len(comm.messages)
        plain[1](self, *arguments)
        sent_ahead.append(len(comm.messages) - before)

    def sum_(self, *arguments):
        within.append(self._sent)
        plain[2](self, *arguments)

    Supply._made, Supply.make_ahead, bucket.GradientBucket.sum = made, make_ahead, sum_
    for overlap in (True, False, None):
        comm.messages = []
        run = run_steps(comm, steps, given, overlap=overlap, **parts)
        runs[overlap], messages[overlap] = everything(run), comm.messages
        comm.messages = None
    Supply._made, Supply.make_ahead, bucket.GradientBucket.sum = plain
    resumed = resumes_exactly(comm, given, overlap=True, **parts)
    return {
        "apart": [distance(runs[True], runs[other])[0] for other in (False, None)],
        "messages": list(messages.values()),
        "ahead": sorted(set(ahead)),
        "within": sum(within),
        "sent ahead": sum(sent_ahead),
        "resumed": [resumed[0], resumed[1]],
    }
