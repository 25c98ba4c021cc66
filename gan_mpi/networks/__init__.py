"""Architectures by name, their initial weights, and how they compute."""
