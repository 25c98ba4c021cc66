"""A fault that a rank has on purpose, to rehearse what happens then."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from gan_mpi.config.values import Fault, fault
from gan_mpi.errors import invalid_value
from gan_mpi.files import fill_for
from gan_mpi.mpi.comm import ROOT
from gan_mpi.runs.directory import CHECKPOINT


@dataclass
class Injection:
    """What --inject asks for, on the rank that has it; it happens once."""

    fault: Fault | None

    @classmethod
    def of(cls, text: str | None, rank: int, ranks: int, steps: int) -> "Injection":
        """Return what a rank of so many has of the fault that a text describes, if there is one.

        Raises UserError if no rank has it, or only after so many steps.
        """
        asked = None if text is None else fault(text)
        if asked is not None and asked.rank >= ranks:
            raise invalid_value("inject", f"there is no rank {asked.rank}, ranks are {ranks}")
        if asked is not None and asked.step > steps:
            raise invalid_value("inject", f"there is no step {asked.step}, steps are {steps}")
        if asked is not None and asked.kind == "enospc" and asked.rank != ROOT:
            raise invalid_value("inject", f"enospc is for rank {ROOT}, which writes all files")
        return cls(asked if asked is not None and asked.rank == rank else None)

    def strike(self, step: int, networks: Mapping[str, nn.Module]) -> None:
        """Let the fault happen if a step, which begins, is its step or a later one."""
        asked = self.fault
        if asked is None or step < asked.step:
            return
        self.fault = None
        what = f"--inject {asked.kind} on rank {asked.rank} in step {step}"
        if asked.kind == "raise":
            raise RuntimeError(what)
        if asked.kind == "exit":
            sys.exit(3)
        if asked.kind in ("kill", "stop"):
            os.kill(os.getpid(), signal.SIGKILL if asked.kind == "kill" else signal.SIGSTOP)
        if asked.kind == "nan":
            with torch.no_grad():
                next(networks["G"].parameters()).fill_(float("nan"))
        if asked.kind == "enospc":
            fill_for(CHECKPOINT)
        time.sleep(asked.seconds)
        while asked.kind == "loop":
            pass
