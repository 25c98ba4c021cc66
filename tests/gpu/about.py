"""Prints what the checks run on, as a line of JSON: about.py DEVICE."""

import json
import platform
import sys

import torch

from gan_mpi.cluster.processors import processor

device = "none"
if sys.argv[1] != "cpu":
    device = torch.cuda.get_device_name()
print(
    json.dumps(
        {
            "device": device,
            "processor": processor(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        }
    )
)
