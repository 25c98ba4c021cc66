"""Computing as after training, on one thread."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from gan_mpi.cluster.device import one_thread


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
