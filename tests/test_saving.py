"""Checkpoints are written behind the loop, one at a time, and one that fails is tried again."""

import math
import random
import subprocess
import threading
import time

import pytest
import torch
from conftest import MAIN
from test_resume import assert_same_bits, last_state

from gan_mpi import files
from gan_mpi.errors import Refused, UserError
from gan_mpi.recording import saving
from gan_mpi.recording.saving import Copies, Saver
from gan_mpi.runs import checkpoint
from gan_mpi.runs.claim import Claim
from gan_mpi.runs.directory import list_checkpoints
from gan_mpi.runs.places import by_page, folder_of, read_places
from gan_mpi.runs.stats import read_stats
from gan_mpi.training.run import Saves, best_interval


@pytest.fixture
def warned():
    return []


def saver(warned, retries=2, saved=True):
    return Saver(warned.append, retries, saved)


def refuse(content):
    raise Refused("cannot write here: No space left on device.")


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
    with pytest.raises(Refused, match="No space left"):
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
    with pytest.raises(Refused):
        saves.insist()
    assert len(warned) == 5


def test_the_first_of_a_run_must_be_there(warned):
    saves = saver(warned, saved=False)
    saves.begin({}, refuse)
    with pytest.raises(Refused):
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
    with pytest.raises(Refused, match=f"cannot write {path}: Is a directory"):
        files.write_kept_lines(tmp_path)
    with pytest.raises(Refused):
        files.append_line(path, "six")


def test_lines_wait_for_rights_and_for_a_folder_that_is_away(tmp_path, monkeypatch):
    """What holds the run is looked for before each change, and may be out of reach too."""
    run, away = tmp_path / "run", tmp_path / "away"
    with Claim() as claim:
        claim.take(run)
        files.keep_lines(run)
        files.append_line(run / "lines", "one")
        run.rename(away)
        run.mkdir()  # where it was mounted
        files.append_line(run / "lines", "two")
        with pytest.raises(Refused, match="run is not there any more, or empty"):
            files.write_aside(run / "file", b"")
        run.rmdir()
        with pytest.raises(Refused):
            files.write_aside(run / "file", b"")
        away.rename(run)
        monkeypatch.setattr(type(run), "open", denied := Denied())
        files.append_line(run / "lines", "three")
        with pytest.raises(Refused, match="Permission denied"):
            claim.check()
        assert denied.asked
        monkeypatch.undo()
        files.append_line(run / "lines", "four")
    assert (run / "lines").read_text().split() == ["one", "two", "three", "four"]
    files.write_kept_lines(run)


class Denied:
    """What opens no file."""

    asked = False

    def __call__(self, *_, **__):
        self.asked = True
        raise PermissionError(13, "Permission denied")


def test_a_start_that_lost_its_run_changes_nothing_from_then_on(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UserError), Claim() as claim:
        claim.take(run)
        files.keep_lines(run)
        (run / "claim-000001.json").rename(run / "claim-000002.json")
        for _ in range(3):
            with pytest.raises(UserError, match="another start has taken"):
                claim.check()
        files.append_line(run / "lines", "of another")
    assert not (run / "lines").exists()
    files.write_kept_lines(run)


def test_a_disk_that_fills_up_within_a_checkpoint_refuses_it(tmp_path):
    """Torch ends its archive all the same, and then complains of that."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        tensors = {str(number): torch.zeros(250_000) for number in range(6)}
        with pytest.raises(Refused, match="No space left on device"):
            checkpoint.write_checkpoint(disk, 3, {"G": tensors})
        assert not [*disk.iterdir()]
    finally:
        subprocess.run(["umount", disk], check=True)


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


def test_how_often_loses_least():
    """Of all intervals, by the expected time that one second of work takes (Daly, equation 13)."""
    for cost, mtbf in ((0.1, 3600.0), (5.0, 3600.0), (60.0, 600.0)):

        def wall(interval, cost=cost, mtbf=mtbf):
            return mtbf * math.expm1((interval + cost) / mtbf) / interval

        found = best_interval(cost, mtbf)
        best = min((found * n / 100 for n in range(20, 500)), key=wall)
        assert found == pytest.approx(best, rel=0.04), (cost, mtbf)
    assert best_interval(10.0, 4.0) == 4.0


def test_when_checkpoints_are_due():
    saves = Saves(4, 2)
    assert not saves.by_cost
    assert [step for step in range(3, 13) if saves.is_due(step - 1, step)] == [4, 8, 12]
    saves = Saves("auto", 20)
    assert saves.by_cost
    assert [step for step in range(21, 33) if saves.is_due(step - 1, step)] == [30, 31, 32]
    saves.plan(30, 5)
    assert [step for step in range(31, 37) if saves.is_due(step - 1, step)] == [35, 36]
    assert saves.is_due(28, 36), "a round of sites is several steps"
    saves.plan(36, 0)
    assert not saves.is_due(35, 36) and saves.is_due(36, 37)


@pytest.mark.slow
def test_a_run_saves_by_what_checkpoints_cost(gan_mpi, tmp_path):
    options = ("--steps", 60, "--checkpoint-every", "auto", "--keep", "all")
    done = gan_mpi(*TRAIN, *options, "--mtbf", 1e-4, size=2)
    assert done.returncode == 0, done.stderr
    steps = [step for step, _ in list_checkpoints(tmp_path / "run")][::-1]
    assert steps[:2] == [0, 10] and steps[-1] == 60 and len(steps) > 4
    (tmp_path / "run").rename(tmp_path / "often")
    assert gan_mpi(*TRAIN, *options, size=2).returncode == 0
    assert [step for step, _ in list_checkpoints(tmp_path / "run")] == [60, 10, 0]
    assert_same_bits(last_state(tmp_path / "run"), last_state(tmp_path / "often"))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--checkpoint-every", "often"), "'often' is neither a whole number nor auto."),
        (("--checkpoint-every", 0), "0 is not in the range x>=1."),
        (("--mtbf", 3), "it is for --checkpoint-every auto, which was not given."),
        (("--checkpoint-every", "auto", "--mtbf", 0), "0.0 is not in the range x>0"),
    ],
)
def test_what_is_no_interval_is_refused(gan_mpi, options, why):
    done = gan_mpi(*TRAIN, *options)
    assert done.returncode == 2 and why in done.stderr


@pytest.mark.launch
@pytest.mark.long
def test_a_hundred_kills_at_random_moments_lose_no_save_but_the_last(start, tmp_path):
    """Of a run that saves at every step; each start goes on from what the one before left."""
    run, rng, lost = tmp_path / "run", random.Random(0), []
    for number in range(1, 101):
        options = ("--steps", 10**6, "--checkpoint-every", 1)
        process = start(*TRAIN, *options, fresh=True, OMP_NUM_THREADS="1")
        folder, until = folder_of(run, number), time.monotonic() + 60
        while not any(place.updates > 3 for place in exact_places(folder)):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
        (place,) = exact_places(folder)
        saved = checkpoint.newest_valid(run, pytest.fail)[1]["progress"]["step"]
        assert saved >= place.step - 2, f"start {number} was in {place.where}"
        lost.append(place.step - 1 - saved)
        for picture in run.glob("fakes-*.png"):
            picture.unlink()
    print(f"steps lost: { ({n: lost.count(n) for n in sorted({*lost})}) }; of {saved} in all")


def exact_places(folder):
    return [by_page(folder, place) for place in read_places(folder)]
