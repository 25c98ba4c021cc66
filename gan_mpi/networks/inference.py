"""Computing as after training, on one thread."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def inference(network: nn.Module) -> Iterator[None]:
    """Let a network compute as after training, on one thread."""
    was_training = network.training
    network.eval()
    try:
        with one_thread():
            yield
    finally:
        network.train(was_training)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: the same order of sums and the same bits on any machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
