"""Ends with 1 unless two checkpoints hold the same tensors to the bit: same.py FILE FILE."""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from gan_mpi.runs.checkpoint import read_checkpoint


def tensors(value: object, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of nested dicts and lists, with where they are."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from tensors(each, f"{name}.{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from tensors(each, f"{name}[{number}]")


one, other = (dict(tensors(read_checkpoint(Path(path)))) for path in sys.argv[1:3])
apart = [name for name in one if name not in other or not torch.equal(one[name], other[name])]
print(f"{len(one)} tensors; apart: {', '.join(apart) or 'none'}")
sys.exit(bool(apart) or one.keys() != other.keys())
