"""Checkpoints are written behind the loop, one at a time, and one that fails is tried again."""

import subprocess
import threading
import time

import pytest
import torch
from conftest import MAIN
from test_resume import assert_same_bits, last_state

from gan_mpi import files
from gan_mpi.errors import CannotWrite, UserError
from gan_mpi.recording import saving
from gan_mpi.recording.saving import Copies, Saver
from gan_mpi.runs import checkpoint
from gan_mpi.runs.directory import list_checkpoints
from gan_mpi.runs.stats import read_stats


@pytest.fixture
def warned():
    return []


def saver(warned, retries=2, saved=True):
    return Saver(warned.append, retries, saved)


def refuse(content):
    raise CannotWrite("cannot write here: No space left on device.")


def test_what_is_written_is_what_there_was_when_it_began(warned):
    go_on, written, weights = threading.Event(), [], torch.zeros(3)
    content, saves = {"G": {"w": weights}, "list": [1, weights], "step": 1}, saver(warned)

    def write(copied):
        assert go_on.wait(10)
        written.append(copied["G"]["w"].tolist() + copied["list"][1].tolist() + [copied["step"]])

    saves.begin(content, write)
    weights.fill_(1)
    content["step"] = 2
    assert written == []
    go_on.set()
    saves.wait()
    assert written == [[0.0] * 6 + [1]] and warned == []


def test_one_is_under_way_and_the_next_waits(warned):
    order, saves = [], saver(warned)

    def slow(content):
        time.sleep(0.2)
        order.append("slow")

    saves.begin({}, slow)
    saves.begin({}, lambda _: order.append("next"))
    assert order[0] == "slow"
    saves.insist()
    assert order == ["slow", "next"]


def test_copies_are_the_same_file_and_memory_is_kept():
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 2, 5, 5)).sum().backward()
    optimizer.step()
    state = {"G": network.state_dict(), "G_optimizer": optimizer.state_dict(), "losses": {"a": 1.5}}
    copies = Copies()
    first = copies.of(state)
    assert checkpoint.pack(first) == checkpoint.pack(state), "to the bit, strides and all"
    optimizer.step()
    places = {name: tensor.data_ptr() for name, tensor in first["G"].items()}
    again = copies.of({**state, "G": network.state_dict()})
    assert {name: tensor.data_ptr() for name, tensor in again["G"].items()} == places
    assert all(torch.equal(again["G"][name], each) for name, each in network.state_dict().items())


def test_a_save_that_fails_is_said_and_the_next_is_tried(warned, monkeypatch):
    monkeypatch.setattr(saving, "AGAIN", 0.0)
    saves, written = saver(warned), []
    for _ in range(2):
        saves.begin({}, refuse)
        saves.wait()
    assert [each.split(" (")[1] for each in warned] == [
        "1 more may fail); make room, or mend it.",
        "0 more may fail); make room, or mend it.",
    ]
    assert warned[0].startswith("cannot write here: No space left on device. Training goes on, and")
    saves.begin({}, written.append)
    saves.insist()
    assert len(written) == 1
    for _ in range(2):  # in a row
        saves.begin({}, refuse)
        saves.wait()
    saves.begin({}, refuse)
    with pytest.raises(CannotWrite, match="No space left"):
        saves.wait()


def test_soon_after_one_that_failed_none_is_tried(warned, monkeypatch):
    monkeypatch.setattr(saving, "AGAIN", 0.3)
    saves, tried = saver(warned), []
    saves.begin({}, refuse)
    saves.wait()
    began = time.monotonic()
    for step in range(3):
        saves.begin({"step": step}, lambda content: tried.append(content["step"]))
        saves.wait()
    assert tried == []
    saves.insist()
    assert tried == [2] and time.monotonic() - began >= 0.25


def test_the_last_is_tried_again_until_it_is_there_or_too_often(warned, monkeypatch):
    monkeypatch.setattr(saving, "AGAIN", 0.01)
    tries, saves = [], saver(warned, retries=3)

    def thrice(content):
        tries.append(1)
        if len(tries) < 3:
            refuse(content)

    saves.begin({}, thrice)
    saves.insist()
    assert len(tries) == 3 and len(warned) == 2
    assert "It is tried again after" in warned[0]
    saves.begin({}, refuse)
    with pytest.raises(CannotWrite):
        saves.insist()
    assert len(warned) == 5


def test_the_first_of_a_run_must_be_there(warned):
    saves = saver(warned, saved=False)
    saves.begin({}, refuse)
    with pytest.raises(CannotWrite):
        saves.wait()
    assert warned == []


@pytest.mark.parametrize("error", [UserError("another start has taken it"), RuntimeError("a bug")])
def test_what_no_room_would_mend_ends_the_run(warned, error):
    def fail(content):
        raise error

    saves = saver(warned)
    saves.begin({}, fail)
    with pytest.raises(type(error), match=str(error)):
        saves.begin({}, fail)
    assert warned == []


def test_lines_wait_for_room(tmp_path, monkeypatch):
    path, full = tmp_path / "lines", tmp_path / "full"
    files.append_line(path, "one")
    files.keep_lines(tmp_path)
    path.rename(full)
    path.mkdir()  # which is not to be appended to
    files.append_line(path, "two")
    files.append_line(path, "three")
    path.rmdir()
    full.rename(path)
    files.append_line(path, "four")
    assert path.read_text().split() == ["one", "two", "three", "four"]
    path.rename(full)
    path.mkdir()
    files.append_line(path, "five")
    with pytest.raises(CannotWrite, match=f"cannot write {path}: Is a directory"):
        files.write_kept_lines(tmp_path)
    with pytest.raises(CannotWrite):
        files.append_line(path, "six")


TRAIN = ("train", "--glyphs", 50, "--batch", 30, "--run-dir", "run")


def test_a_full_disk_rehearsed(gan_mpi, tmp_path):
    options = ("--steps", 12, "--checkpoint-every", 4, "--keep", "all")
    inject = ("--inject", "rank=0,step=3,kind=enospc")
    soon = "from gan_mpi.recording import saving; saving.AGAIN = 0.0\n" + MAIN
    done = gan_mpi(*TRAIN, *options, *inject, size=2, code=soon)
    assert done.returncode == 0
    path = "run/checkpoint-000004.pt"
    assert done.stderr.count("Warning") == 1
    assert f"cannot write {path}: No space left on device. Training goes on" in done.stderr
    assert [step for step, _ in list_checkpoints(tmp_path / "run")] == [12, 8, 0]
    assert not [*(tmp_path / "run").glob(".*")], "nothing is left half written"


def test_a_full_disk_is_of_root(gan_mpi):
    done = gan_mpi(*TRAIN, "--inject", "rank=1,step=3,kind=enospc", size=2)
    assert done.returncode == 2
    assert "'--inject': enospc is for rank 0, which writes all files." in done.stderr


def wait_for(path, text):
    until = time.monotonic() + 60
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)


def trained(run_dir):
    """Return what of a run's last state does not depend on its length."""
    state = last_state(run_dir)
    kept = {
        name: value for name, value in state.items() if name.startswith((".G", ".D", ".progress"))
    }
    assert len(kept) > 20
    return kept


@pytest.mark.launch
@pytest.mark.slow
def test_training_goes_on_beside_a_full_disk_and_saves_once_there_is_room(start, gan_mpi, tmp_path):
    disk = tmp_path / "run"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        options = ("--steps", 4000, "--checkpoint-every", 5, "--checkpoint-retries", 1000)
        process = start(*TRAIN, *options, size=2, PYTHONUNBUFFERED="1")
        wait_for(disk / "stats.jsonl", '"step": ')
        filler = disk / "filler.log"
        with pytest.raises(OSError, match="No space left"), filler.open("wb", 0) as file:
            while file.write(b"0" * (1 << 20)):
                pass
        for line in process.stderr:
            if "Training goes on" in line:
                break
        assert "No space left on device. Training goes on" in line
        newest = list_checkpoints(disk)[0][0]
        time.sleep(1.0)
        assert process.poll() is None and list_checkpoints(disk)[0][0] == newest
        filler.unlink()
        until = time.monotonic() + 30
        while list_checkpoints(disk)[0][0] == newest:
            assert time.monotonic() < until
            time.sleep(0.1)
        (disk / "STOP").touch()
        process.communicate(timeout=60)
        assert process.returncode == 75
        steps = [record["step"] for record in read_stats(disk)]
        assert steps == list(range(steps[0], steps[-1] + 1, steps[0])), "no line is lost"
        stopped = trained(disk)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    gan_mpi(*TRAIN[:-1], "undisturbed", "--steps", stopped[".progress.step"], size=2)
    assert_same_bits(stopped, trained(tmp_path / "undisturbed"))
