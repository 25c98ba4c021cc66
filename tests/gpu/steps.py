"""Where the time of a step goes on a device, one rank: steps.py DEVICE STEPS PRESET:BATCH...

Prints a line of JSON for each, on a card also with steps launched as one (--graphs): milliseconds a
step, those of its kernels without the gaps between them, and what a step asks of the driver.
"""

import json
import sys
import time

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gan_mpi.cluster.device import place
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import leave, world
from gan_mpi.training.replicas import Replicas
from gan_mpi.training.start import find_start
from gan_mpi.training.turn import Turn

COUNTED = ("cudaStreamSynchronize", "cudaMemcpyAsync", "cudaLaunchKernel", "cudaLaunchKernelExC")
FEW = 10  # steps that are profiled


def look(
    comm: Communicator, device: str, steps: int, preset: str, batch: int, graphs: bool
) -> None:
    """Time and profile steps of a preset; print the table, and the line."""
    given = {"preset": preset, "batch": batch, "glyphs": 2000, "steps": 10**6, "graphs": graphs}
    at = place(comm, device).device
    ranks = Replicas(comm, comm.on_root(lambda: find_start(given)))
    state = ranks.open(at, Phases())

    def play(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            ranks.play(Turn(comm, state, ranks.supply, StopRequest()))
        state.settle()  # waits for the device
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
    how = "profiled, launched as one" if graphs else "profiled"
    found = {"name": f"{preset}, batch {batch}, {how}", "ms": round(ms, 3)}
    if kernels:
        found |= {"kernels_ms": round(kernels, 3), "share_of_kernels": round(kernels / ms, 2)}
    print(events.table(sort_by="self_cpu_time_total", row_limit=15))
    print(json.dumps({**found, **calls}), flush=True)


def main() -> None:
    comm = world()
    for each in sys.argv[3:]:
        preset, _, batch = each.partition(":")
        for graphs in (False,) if sys.argv[1] == "cpu" else (False, True):
            look(comm, sys.argv[1], int(sys.argv[2]), preset, int(batch), graphs)
    leave()


if __name__ == "__main__":
    main()
