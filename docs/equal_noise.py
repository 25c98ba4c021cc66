"""Exercise: every rank draws the same latents, as CNTK's Basic_GAN_Distributed.py did."""

from gan_mpi.__main__ import main
from gan_mpi.training.feed import Feed

next_latents = Feed.next_latents


def the_first_ones(self, position, lo, hi):
    """Take the first latents of the batch, whatever the rank."""
    return next_latents(self, position, 0, hi - lo)


Feed.next_latents = the_first_ones
main()
