"""Copies of a device that arrive as late as they may, on ranks of tests that have none."""

from contextlib import contextmanager

import torch

from gan_mpi.parallel import bucket, staging
from ranks.device import on_a_device
from ranks.training import distance, not_idle, on_sizes, run_steps, shrink_networks

LOST = float("nan")


class LateCopies:
    """Stands for a stream of copies: what is looked at before somebody waited for it is lost.

    What is copied may not change before.
    """

    def __init__(self, device):
        self.back, self.going = [], []

    def computed(self):
        return lambda: None

    def to_host(self, source, target):
        for read, asked in self.going:  # which a device may read until now
            assert torch.equal(read, asked), "it changed before it was copied back"
        self.going.clear()
        asked = source.clone()
        target.fill_(LOST)

        def arrive():
            assert torch.equal(source, asked), "it changed before it was copied"
            target.copy_(source)

        return arrive

    def to_device(self, source, target):
        self.back.append((source, source.clone(), target))
        target.fill_(LOST)

    def join(self):
        for source, asked, target in self.back:
            assert torch.equal(source, asked), "it changed before it was copied"
            target.copy_(source)
            self.going.append((source, asked))
        self.back.clear()


@contextmanager
def replaced(module, **others):
    """Let names of a module mean something else."""
    plain = {name: getattr(module, name) for name in others}
    vars(module).update(others)
    try:
        yield
    finally:
        vars(module).update(plain)


def staged(comm, sizes, steps, cases):
    """Answer each case (name, options): on each of `sizes` ranks, how far a run on a device is from
    one on the host, but for what is idle; whether copies that are late, no overlap, and an MPI that
    reads the device's memory give the same bits; how many copies begin within a backward; and how
    many messages there are of each.

    Networks are small, and so are pieces.
    """
    shrink_networks()
    with replaced(bucket, LEAST=100, MESSAGE=5000):
        return {
            name: on_sizes(comm, sizes, lambda part, given=given: _staged(part, steps, given))
            for name, given in cases
        }


def _staged(comm, steps, given):
    given = {"precision": "fp64", **given}
    parts = {"micro_batch": given.pop("micro_batch", None)}
    within, messages, plain = [], [], bucket.GradientBucket._sum_pieces

    def sum_pieces(self, *arguments):
        within.append(self._fetched)
        plain(self, *arguments)

    def run(**how):
        comm.messages = []
        state = run_steps(comm, steps, given, **parts, **how)
        messages.append(len(comm.messages))
        comm.messages = None
        return not_idle(state)

    on_host = run()
    bucket.GradientBucket._sum_pieces = sum_pieces
    with on_a_device():
        plainly = run()
        with replaced(staging, copies_of=LateCopies):
            late = [run(), run(overlap=False)]
            direct = run(direct=True)
    bucket.GradientBucket._sum_pieces = plain
    return {
        "host": distance(on_host, plainly),
        "late": [distance(plainly, each)[0] for each in late],
        "direct": distance(plainly, direct),
        "within": sum(within),
        "messages": messages,
    }
