"""The only package that imports MPI: its groups of ranks, and its life in this process."""
