"""mpi4py's MPI, which the rest of the package imports from here, once it is set up."""

import os

import mpi4py

mpi4py.rc.initialize = False  # world() does it, once it has looked at the launcher
mpi4py.rc.finalize = True
# Open MPI's UCX component complains aloud about shared windows.
os.environ.setdefault("OMPI_MCA_osc", "^ucx")

from mpi4py import MPI

__all__ = ["MPI"]
