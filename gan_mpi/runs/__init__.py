"""A run directory as files; no torch but in checkpoint.py, no MPI."""
