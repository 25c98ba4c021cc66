"""Data-parallel training of generative adversarial networks with MPI."""

__version__ = "0.5.0"
