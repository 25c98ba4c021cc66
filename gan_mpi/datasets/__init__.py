"""Finding and reading data; no MPI."""
