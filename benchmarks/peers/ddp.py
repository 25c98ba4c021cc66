"""DistributedDataParallel over gloo, or NCCL on a GPU, started by torchrun.

Batch norm is of each process.
"""

import gc
import sys

import torch.distributed as dist
from loop import networks, options, train
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    """Train; nothing that is left afterwards holds gloo's threads."""
    given = options()
    players = networks(given.config, tuple(given.images.shape[1:]))
    G, D = (each.to(given.device) for each in players)
    # Reals and fakes pass before one backward, which a broadcast of buffers between would spoil.
    parallel = [DistributedDataParallel(each, broadcast_buffers=False) for each in (G, D)]
    train(given, *parallel, parallel[1].module, dist.get_rank(), dist.get_world_size())


if __name__ == "__main__":
    dist.init_process_group("nccl" if "cuda" in sys.argv else "gloo")
    main()
    # Networks that outlive the group, or a process that leaves before the others, now and then
    # end in "terminate called without an active exception".
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()
