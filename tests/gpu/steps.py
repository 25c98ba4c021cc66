"""Where the time of a step goes on a device, one rank: steps.py DEVICE STEPS PRESET:BATCH...

Prints a line of JSON for each: milliseconds a step, those of its kernels without the gaps between
them, and what a step asks of the driver.
"""

import json
import sys
import time

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gan_mpi.cluster.device import place, room_for_data
from gan_mpi.datasets.find import load_dataset
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import leave, world
from gan_mpi.training.build import build_state
from gan_mpi.training.feed import Feed
from gan_mpi.training.start import find_start
from gan_mpi.training.supply import Supply
from gan_mpi.training.turn import Turn

COUNTED = ("cudaStreamSynchronize", "cudaMemcpyAsync", "cudaLaunchKernel", "cudaLaunchKernelExC")
FEW = 10  # steps that are profiled


def look(comm: Communicator, device: str, steps: int, preset: str, batch: int) -> None:
    """Time and profile steps of a preset; print the table, and the line."""
    given = {"preset": preset, "batch": batch, "glyphs": 2000, "steps": 10**6}
    start = comm.on_root(lambda: find_start(given))
    at = place(comm, device).device
    data = load_dataset(start.source)
    state = build_state(comm, start, data, at)
    room = room_for_data(at, comm.local_size)
    supply = Supply(comm, state.game, Feed(comm, state, data, at, room=room))

    def play(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            Turn(comm, state, supply, StopRequest()).play()
        state.books.settle()  # waits for the device
        return 1000 * (time.perf_counter() - begin) / count

    play(steps)
    ms = play(5 * steps)
    activities = [ProfilerActivity.CPU]
    if at.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as seen:
        play(FEW)
    events = seen.key_averages()
    kernels = sum(
        each.self_device_time_total
        for each in events
        if each.device_type != DeviceType.CPU and not each.is_user_annotation
    )
    kernels = kernels / 1000 / FEW
    calls = {each.key: each.count / FEW for each in events if each.key in COUNTED}
    found = {"name": f"{preset}, batch {batch}, profiled", "ms": round(ms, 3)}
    if kernels:
        found |= {"kernels_ms": round(kernels, 3), "share_of_kernels": round(kernels / ms, 2)}
    print(events.table(sort_by="self_cpu_time_total", row_limit=15))
    print(json.dumps({**found, **calls}), flush=True)


def main() -> None:
    comm = world()
    for each in sys.argv[3:]:
        preset, _, batch = each.partition(":")
        look(comm, sys.argv[1], int(sys.argv[2]), preset, int(batch))
    leave()


if __name__ == "__main__":
    main()
