"""Exercise: every rank draws the same latents, as CNTK's Basic_GAN_Distributed.py did."""

from gan_mpi.__main__ import main
from gan_mpi.training.feed import Feed

next_latents = Feed.next_latents


def the_first_ones(self, position):
    """Take the first latents of the batch, whatever the rank."""
    mine = self.lo, self.hi
    self.lo, self.hi = 0, self.hi - self.lo
    latents = next_latents(self, position)
    self.lo, self.hi = mine
    return latents


Feed.next_latents = the_first_ones
main()
