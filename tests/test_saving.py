"""Checkpoints are written behind the loop, one at a time, and one that fails is tried again."""

import math
import random
import threading
import time

import pytest
import torch
from test_resume import assert_same_bits, last_state

from gan_mpi.errors import Refused, UserError
from gan_mpi.recording import saving
from gan_mpi.recording.saving import Copies, Saver
from gan_mpi.runs import checkpoint
from gan_mpi.runs.directory import list_checkpoints
from gan_mpi.runs.places import by_page, folder_of, read_places
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


@pytest.mark.parametrize("ready", [False, True])
def test_copies_are_the_same_file_and_memory_is_kept(ready):
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 2, 5, 5)).sum().backward()
    optimizer.step()
    state = {"G": network.state_dict(), "G_optimizer": optimizer.state_dict(), "losses": {"a": 1.5}}
    tensors = [*state["G"].values()]
    tensors += [each for of in state["G_optimizer"]["state"].values() for each in of.values()]
    copies = Copies([tensor.nbytes for tensor in tensors] if ready else ())
    before = sum(map(len, copies._ready.values()))
    first = copies.of(state)
    assert sum(map(len, copies._ready.values())) == before - len(tensors) * ready
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


TRAIN = ("train", "--glyphs", 50, "--batch", 30, "--run-dir", "run")


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
