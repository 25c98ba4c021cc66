"""Figures of how alike two sets of features are, over all ranks; no networks here.

Every rank holds all rows of the features, float64 (N, d), works on its part of them and learns
the sum, so that any number of ranks gets the same to rounding error.  Linear algebra is torch's,
which keeps to the threads that a rank was given; numpy's takes all cores, and two ranks of a node
that do so wait for each other a hundred times as long as they compute.
"""
