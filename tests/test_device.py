"""Threads of a rank, and the warning about idle cores."""

import os

import pytest
import torch

from gan_mpi.cluster import cores, device
from gan_mpi.mpi import launcher
from gan_mpi.programs import plan

NODE, LOCAL = launcher.node_name(), launcher.LOCAL_VARIABLES
HYDRA = {"PMI_SIZE": "2", "MPI_LOCALNRANKS": "2"}
SRUN = {"PMI_SIZE": "2", "SLURM_STEP_ID": "0"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "2"}
ALL, LEFT, RIGHT = frozenset(range(8)), frozenset(range(4)), frozenset(range(4, 8))


@pytest.mark.parametrize(
    ("masks", "threads"),
    [
        ([ALL], [8]),
        ([ALL, ALL, ALL], [2, 2, 2]),
        ([LEFT, RIGHT], [4, 4]),
        ([LEFT, LEFT, RIGHT], [2, 2, 4]),
        ([frozenset({0})] * 3, [1, 1, 1]),
        ([ALL, LEFT], [6, 2]),
        ([ALL, LEFT, RIGHT], [4, 2, 2]),
        ([frozenset(range(6)), frozenset(range(2, 8)), LEFT], [2, 3, 1]),
    ],
)
def test_cores_are_divided_among_the_ranks_that_may_run_on_them(masks, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [cores.thread_count(masks, rank) for rank in range(len(masks))] == threads
    for asked, given in (("3", 3), ("2,1", 2), (" 1 ", 1), ("0", 1), ("many", threads[0])):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert cores.thread_count(masks, 0) == given


@pytest.mark.parametrize(
    ("tasks", "node", "count"),
    [("2(x2)", "1", 2), ("3,1(x2)", "2", 1), ("4", "0", 4), ("x", "0", 9)],
)
def test_slurm_says_how_many_tasks_are_on_a_node(tasks, node, count, monkeypatch):
    for variable in (*LOCAL, "PMI_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "9")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", tasks)
    monkeypatch.setenv("SLURM_NODEID", node)
    assert launcher.local_count() == count


def test_a_dry_run_says_that_ranks_take_turns(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: LEFT)
    for variable in ("OMP_NUM_THREADS", *LOCAL):
        monkeypatch.delenv(variable, raising=False)
    for ranks, said in (
        ("2", "2 thread(s) a rank"),
        ("8", f"8 ranks have 4 core(s) on {NODE}, in"),
    ):
        monkeypatch.setenv("PMI_SIZE", ranks)
        assert said in plan._device("cpu") and ("turns" in plan._device("cpu")) == (ranks == "8")


@pytest.mark.parametrize(
    ("masks", "allotted", "warns"),
    [
        ([frozenset({0}), frozenset({1})], "", True),
        ([frozenset({0}), frozenset({1})], "4", False),
        ([LEFT], "", False),
        ([frozenset({0, 1, 2})], "", True),
    ],
)
def test_a_binding_that_leaves_most_cores_idle_is_named(masks, allotted, warns, monkeypatch):
    monkeypatch.setattr(launcher, "rank", lambda: 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: ALL)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", allotted)
    for variable in (*HYDRA, *SRUN, *OPEN_MPI):
        monkeypatch.delenv(variable, raising=False)
    for launched, option in (
        (HYDRA, " -bind-to none "),
        (SRUN, " --cpu-bind=none "),
        (SRUN | HYDRA, " -bind-to none "),  # mpiexec in a job
        (SRUN | OPEN_MPI, " --bind-to none "),
    ):
        with monkeypatch.context() as patch:
            for name, value in launched.items():
                patch.setenv(name, value)
            said = cores.idle_cores(masks, [1] * len(masks))
        assert bool(said) == warns
        assert option in said or not warns


class Node:
    """Ranks of one node, each with what it says."""

    def __init__(self, everyone):
        self.everyone = everyone

    def node_allgather(self, mine):
        return self.everyone


@pytest.mark.parametrize(
    ("uuids", "said"),
    [
        (["a", "b"], ""),  # each its own, as number 0, by --gpus-per-task
        (["a", "a", "b"], "3 ranks share 2 GPU(s) on a node"),
        (["", ""], ""),
        (["a", ""], ""),
    ],
)
def test_gpus_are_told_apart_by_their_uuids(uuids, said, monkeypatch):
    monkeypatch.setattr(device, "_identity", lambda _: uuids[0])
    assert device.sharing(Node(uuids), torch.device("cuda", 0)) == said
