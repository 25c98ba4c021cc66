"""mpi4py's MPI, which the rest of the package imports from here, once it is set up."""

import os

import mpi4py

mpi4py.rc.initialize = False  # world() does it, once it has looked at the launcher
mpi4py.rc.finalize = True


def tells_of_lost_ranks() -> bool:
    """Return whether `mpiexec --with-ft ulfm` of Open MPI started this process."""
    return os.environ.get("OMPI_MCA_mpi_ft_enable", "").lower() in ("1", "true")


if tells_of_lost_ranks():
    # Its collectives by nodes give wrong sums once a rank is gone (5.0.11).
    os.environ.setdefault("OMPI_MCA_coll", "^han")

from mpi4py import MPI

__all__ = ["MPI", "tells_of_lost_ranks"]
