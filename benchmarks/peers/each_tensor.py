"""mpi4py's Allreduce of each gradient by itself, as tutorials write it."""

from mpi4py import MPI  # isort: skip
from loop import networks, options, train
from torch import nn

if __name__ == "__main__":
    comm = MPI.COMM_WORLD
    given = options()
    G, D = networks(given.config, tuple(given.images.shape[1:]))

    def average(network: nn.Module) -> None:
        """Average the gradients of a network over all processes."""
        for parameter in network.parameters():
            if parameter.grad is not None:
                mine = parameter.grad.contiguous()
                comm.Allreduce(MPI.IN_PLACE, mine.numpy(), MPI.SUM)
                parameter.grad = mine.div_(comm.size)

    train(given, G, D, D, comm.rank, comm.size, average)
