"""What the networks compute in."""

import torch

DTYPES = {"fp32": torch.float32, "fp64": torch.float64}
