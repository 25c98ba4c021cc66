"""DistributedDataParallel over gloo, started by torchrun; batch norm is of each process."""

import torch.distributed as dist
from loop import networks, options, train
from torch.nn.parallel import DistributedDataParallel

if __name__ == "__main__":
    given = options()
    dist.init_process_group("gloo")
    G, D = networks(given.config, tuple(given.images.shape[1:]))
    # Reals and fakes pass before one backward, which a broadcast of buffers between would spoil.
    parallel = [DistributedDataParallel(each, broadcast_buffers=False) for each in (G, D)]
    train(given, *parallel, parallel[1].module, dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()
