"""What only cards of NVIDIA have; the rest goes by the names that torch has for all GPUs."""

import os
import re
from contextlib import suppress
from pathlib import Path

from gan_mpi.mpi import launcher

DRIVER = Path("/proc/driver/nvidia")  # there is a folder gpus/ADDRESS for each
DEVICES = "/dev/nvidia"  # and the number that the driver has for a card
VISIBLE = "CUDA_VISIBLE_DEVICES"


def has_driver() -> bool:
    """Return whether NVIDIA's driver runs on this node."""
    return DRIVER.exists()


def show_own_card() -> None:
    """Let this process see one of the GPUs of its node that it may use, by its rank there.

    An MPI that reads memory of GPUs may open the first that it sees in MPI_Init, for all ranks of
    a node alike.  Nothing is done where the launcher tells no rank of the node, or the driver not
    which GPUs there are.
    """
    number = launcher.local_rank()
    if number is None:
        return
    shown = os.environ.get(VISIBLE)
    cards = _usable() if shown is None else [each for each in shown.split(",") if each.strip()]
    if cards:
        os.environ[VISIBLE] = cards[number % len(cards)].strip()


def _usable() -> list[str]:
    """Return the UUIDs of the GPUs that this process can open; none unless all are known."""
    found = []
    for about in sorted(DRIVER.glob("gpus/*/information")):
        with suppress(OSError):
            said = about.read_text()
            minor = re.search(r"Device Minor:\s*(\d+)", said)
            os.close(os.open(f"{DEVICES}{minor[1] if minor else ''}", os.O_RDWR))
            found.append(re.search(r"GPU UUID:\s*(GPU-[0-9a-f-]+)", said))
    return [uuid[1] for uuid in found if uuid] if all(found) else []


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
