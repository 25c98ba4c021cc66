"""The only package that imports MPI: its groups of ranks, and its life in this process."""

import os

import mpi4py

mpi4py.rc.initialize = False  # world() does it, once it has looked at the launcher
mpi4py.rc.finalize = True
# Open MPI's UCX component complains aloud about shared windows.
os.environ.setdefault("OMPI_MCA_osc", "^ucx")
