"""Nodes, cores and devices, and the schedulers that lend them."""
