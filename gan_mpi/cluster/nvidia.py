"""What only cards of NVIDIA have; the rest goes by the names that torch has for all GPUs."""

import os
import re
from pathlib import Path

from gan_mpi.mpi import launcher

DRIVER = Path("/proc/driver/nvidia")  # there is a folder gpus/ADDRESS for each
VISIBLE = "CUDA_VISIBLE_DEVICES"


def has_driver() -> bool:
    """Return whether NVIDIA's driver runs on this node."""
    return DRIVER.exists()


def show_own_card() -> None:
    """Let this process see one GPU of its node, by its rank there, if nobody has chosen before.

    An MPI that reads memory of GPUs opens the first that it sees in MPI_Init, for all ranks of a
    node alike.  Nothing is done where the launcher tells no rank of the node, or the driver no
    GPUs.
    """
    number = launcher.local_rank()
    if number is None or VISIBLE in os.environ:
        return
    about = sorted(DRIVER.glob("gpus/*/information"))
    found = [re.search(r"GPU UUID:\s*(GPU-[0-9a-f-]+)", each.read_text()) for each in about]
    if found and (own := found[number % len(found)]):
        os.environ[VISIBLE] = own[1]


def joules(uuid: str) -> float | None:
    """Return what a GPU has taken since its driver began; None where NVML does not tell.

    It needs the package nvidia-ml-py.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except pynvml.NVMLError:  # of a card, or a part of one, that does not count
        return None
