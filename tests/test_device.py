"""Threads of a rank, and the warning about idle cores."""

import os
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import MAIN

from gan_mpi.cluster import cards, cores, device, nvidia
from gan_mpi.cluster.cards import Card, choose
from gan_mpi.cluster.cores import numbers_of
from gan_mpi.errors import UserError
from gan_mpi.mpi import launcher
from gan_mpi.programs import doctor, plan
from gan_mpi.runs.segments import read_segments

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
    monkeypatch.setattr(device, "card_of", lambda _: Card(uuids[0]))
    assert device.sharing(Node(uuids), torch.device("cuda", 0)) == said


A, B = Card("a", near=LEFT), Card("b", near=RIGHT)
FAR_A, FAR_B = Card("a"), Card("b")  # of which nobody knows where they are


@pytest.mark.parametrize(
    ("shown", "masks", "taken"),
    [
        ([[A, B]] * 2, [LEFT, RIGHT], [0, 1]),
        ([[A, B]] * 2, [RIGHT, LEFT], [1, 0]),  # not that of its number
        ([[A, B]] * 4, [LEFT, LEFT, RIGHT, RIGHT], [0, 1, 1, 0]),
        ([[A, B]] * 2, [ALL, ALL], [0, 1]),
        ([[FAR_A, FAR_B]] * 4, [LEFT, RIGHT, LEFT, RIGHT], [0, 1, 0, 1]),
        ([[A], [B]], [RIGHT, LEFT], [0, 0]),  # each is shown one, by the launcher
        ([[A]] * 3, [ALL] * 3, [0, 0, 0]),
        ([[], []], [ALL, ALL], [0, 0]),
    ],
)
def test_a_rank_takes_a_gpu_that_fewest_have_near_its_cores(shown, masks, taken):
    assert [choose(shown, masks, rank) for rank in range(len(shown))] == taken


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3,8", [0, 1, 2, 3, 8]), ("5", [5]), ("", []), ("0-", []), ("none", [])],
)
def test_lists_of_cores_are_those_of_the_kernel(text, numbers):
    assert numbers_of(text) == numbers


def test_what_a_gpu_is_and_what_is_near_it(monkeypatch, tmp_path):
    at = tmp_path / "0000:3b:00.0"
    at.mkdir()
    for name, text in (
        ("local_cpulist", "0-3"),
        ("max_link_speed", "32.0 GT/s PCIe"),
        ("max_link_width", "16"),
    ):
        (at / name).write_text(f"{text}\n")
    known = {"name": "NVIDIA H200", "total_memory": 140 << 30, "uuid": "GPU-1"}
    place = {"pci_domain_id": 0, "pci_bus_id": 0x3B, "pci_device_id": 0}
    found = [SimpleNamespace(**known, **place), SimpleNamespace(**known)]
    monkeypatch.setattr(cards, "PCI", tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(found))
    monkeypatch.setattr(torch.cuda, "get_device_properties", found.__getitem__)
    whole, without = cards.cards()
    assert whole == Card("GPU-1", "NVIDIA H200", 140 << 30, "32.0 GT/s PCIe x16", LEFT)
    assert without == Card("GPU-1", "NVIDIA H200", 140 << 30)
    assert device.capability(torch.device("cuda", 1)) == "NVIDIA H200 (140 GiB)"


def test_gpus_of_nodes_are_told_once_for_each_kind():
    def rank(host, *cards):
        return SimpleNamespace(host=host, cards=cards)

    two = [Card(name, "H200", 140 << 30, "PCIe x16", LEFT) for name in "ab"]
    other = Card("c", "A100", 40 << 30)
    assert doctor.about_cards([rank("n1", *two), rank("n1", *two)]) == [
        "GPU 0-1: H200, 140 GiB, PCIe x16, near cores 0-3"
    ]
    assert doctor.about_cards([rank("n1", two[0]), rank("n2", other), rank("n3", other)]) == [
        "n1, GPU 0: H200, 140 GiB, PCIe x16, near cores 0-3",
        "n2 and others, GPU 0: A100, 40 GiB",
    ]
    assert doctor.about_cards([rank("n1"), rank("n2")]) == []


@pytest.mark.parametrize("without", [[], [0, 1, 2], [1]])
def test_ranks_with_and_without_a_gpu_do_not_train_together(without):
    kinds = [("cpu" if rank in without else "cuda", f"n{rank}") for rank in range(3)]
    if without != [1]:
        device._require_one_kind(kinds)
        return
    with pytest.raises(UserError, match="auto, but rank 1 on n1 sees no GPU and others do"):
        device._require_one_kind(kinds)


class NVML:
    """Counts energy as NVML does, in mJ, of one card; others it does not know."""

    class NVMLError(Exception):
        pass

    def __init__(self):
        self.asked, self.total = [], 5_000_000

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.asked.append(uuid)
        if uuid != "GPU-1":
            raise self.NVMLError
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self.total


@pytest.mark.parametrize("identity", ["1", "GPU-1", "2"])
def test_the_energy_of_a_gpu_is_what_it_has_taken_since(monkeypatch, identity):
    nvml = NVML()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(cards, "cards", lambda: [Card(identity)])
    meter = cards.Meter(torch.device("cuda", 0))
    nvml.total += 250_500
    assert meter.joules() == (None if identity == "2" else 250.5)
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert cards.Meter(torch.device("cuda", 0)).joules() is None
    assert cards.Meter(torch.device("cpu")).joules() is None


@pytest.mark.parametrize(
    ("everyone", "joules"),
    [
        ([("n1", "a", 5.0), ("n1", "a", 5.0), ("n1", "b", 2.0), ("n2", "a", 1.0)], 8.0),
        ([("n1", "a", 5.0), ("n1", "b", None)], None),
        ([("n1", "", None), ("n1", "", None)], None),
    ],
)
def test_the_energy_of_ranks_counts_each_card_once(everyone, joules):
    comm = SimpleNamespace(allgather=lambda mine: everyone)
    assert cards.energy(comm, cards.Meter(torch.device("cpu"))) == joules


def test_what_gpus_took_is_kept_and_shown(gan_mpi, tmp_path):
    code = (
        "from gan_mpi.recording import journal; journal.energy = lambda comm, meter: 7.2e6\n" + MAIN
    )
    given = ("train", "--glyphs", 20, "--batch", 4, "--steps", 2, "--run-dir", "run")
    assert gan_mpi(*given, code=code).returncode == 0
    (segment,) = read_segments(tmp_path / "run")
    assert segment["gpu_joules"] == 7.2e6
    assert "node-hours  2 kWh of GPUs  done" in gan_mpi("status", "run").stdout
    assert gan_mpi("train", "--resume", "run", "--steps", 4).returncode == 0
    assert "gpu_joules" not in read_segments(tmp_path / "run")[1], "a CPU's is not known"


UUIDS = ("GPU-11111111-0000-0000-0000-000000000000", "GPU-22222222-0000-0000-0000-00000000abcd")


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """Invent what NVIDIA's driver tells of two cards, and their devices."""
    monkeypatch.setattr(nvidia, "DRIVER", tmp_path)
    monkeypatch.setattr(nvidia, "DEVICES", f"{tmp_path}/nvidia")
    for number, uuid in enumerate(UUIDS):
        folder = tmp_path / "gpus" / f"0000:{number}b:00.0"
        folder.mkdir(parents=True)
        about = f"Model: \t\t NVIDIA H100\nGPU UUID: \t {uuid}\nDevice Minor: \t {number}\n"
        (folder / "information").write_text(about)
        (tmp_path / f"nvidia{number}").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("of_launcher", "shown"),
    [
        ({"MPI_LOCALRANKID": "0"}, UUIDS[0]),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "1"}, UUIDS[1]),
        ({"SLURM_LOCALID": "2"}, UUIDS[0]),
        ({}, None),
        ({"MPI_LOCALRANKID": "1", "CUDA_VISIBLE_DEVICES": "7"}, "7"),
        ({"SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}, "1"),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, "0,1"),
        ({"MPI_LOCALRANKID": "1", "CUDA_VISIBLE_DEVICES": ""}, ""),
    ],
)
def test_an_mpi_that_opens_a_gpu_is_shown_the_one_of_its_rank(
    monkeypatch, driver, of_launcher, shown
):
    monkeypatch.setattr(os, "environ", dict(of_launcher))
    nvidia.show_own_card()
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == shown


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda driver: (driver / "nvidia0").unlink(), UUIDS[1]),
        (lambda driver: shutil.rmtree(driver / "gpus"), None),
        (
            lambda driver: (driver / "gpus" / "0000:0b:00.0" / "information").write_text(
                "GPU UUID: \t GPU-????????-????-????\nDevice Minor: \t 0\n"
            ),
            None,
        ),
    ],
    ids=["one that may not be used", "none", "one that has yet to be begun"],
)
def test_only_gpus_that_may_be_used_and_are_known_are_shown(monkeypatch, driver, change, shown):
    change(driver)
    monkeypatch.setattr(os, "environ", {"MPI_LOCALRANKID": "0"})
    nvidia.show_own_card()
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == shown
