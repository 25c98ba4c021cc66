"""Checkpoints: whole, checked, and never in the way of each other."""

import io
import random

import pytest
import torch

from gan_mpi import files
from gan_mpi.errors import UserError
from gan_mpi.runs import checkpoint
from gan_mpi.runs import directory as rundir

STATE = {"G": {"weight": torch.arange(300.0)}, "progress": {"step": 3}, "name": "x"}


def sentence(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def test_a_checkpoint_loads_here_and_in_plain_torch(tmp_path):
    path = checkpoint.save_checkpoint(tmp_path, 3, STATE)
    assert path.name == "checkpoint-000003.pt"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    for state in (
        checkpoint.read_checkpoint(path),
        torch.load(path, weights_only=True),
    ):
        assert torch.equal(state["G"]["weight"], STATE["G"]["weight"])
        assert (state["progress"], state["name"]) == ({"step": 3}, "x")


def test_any_changed_byte_and_any_cut_is_noticed(tmp_path):
    good = checkpoint.pack(STATE)
    rng = random.Random(0)
    for position in rng.sample(range(len(good)), 300):
        bad = bytearray(good)
        bad[position] ^= 1 << rng.randrange(8)
        assert "damaged" in sentence(checkpoint.unpack, bytes(bad), tmp_path)
        assert "damaged" in sentence(checkpoint.unpack, good[:position], tmp_path)


def test_a_checkpoint_with_a_pickle_is_refused(tmp_path):
    path = tmp_path / "checkpoint-000001.pt"
    path.write_bytes(checkpoint.pack({"G": torch.nn.Linear(2, 2)}))
    assert sentence(checkpoint.read_checkpoint, path) == (
        f"{path} is no checkpoint: it holds more than tensors."
    )
    torch.save(torch.nn.Linear(2, 2), path)
    assert f"{path} is damaged, or no checkpoint" in sentence(checkpoint.read_checkpoint, path)


def test_another_format_is_refused(tmp_path):
    later = checkpoint.pack({**STATE, "format": 1})
    assert "not a checkpoint of this version" in sentence(checkpoint.unpack, later, tmp_path)


def test_the_last_three_are_kept_and_the_newest_valid_is_found(tmp_path):
    for step in (1, 20, 300, 1_000_000):
        checkpoint.save_checkpoint(tmp_path, step, {**STATE, "step": step})
    assert [step for step, _ in rundir.list_checkpoints(tmp_path)] == [
        1_000_000,
        300,
        20,
    ]
    warnings = []
    for step in (1_000_000, 300):
        path = rundir.checkpoint_path(tmp_path, step)
        path.write_bytes(path.read_bytes()[:-1])
    path, state = checkpoint.newest_valid(tmp_path, warnings.append)
    assert (state["step"], path.name) == (20, "checkpoint-000020.pt")
    assert len(warnings) == 1 and "checkpoint-1000000.pt is damaged" in warnings[0]
    path.write_bytes(b"")
    assert "checkpoint-1000000.pt is damaged" in sentence(
        checkpoint.newest_valid, tmp_path, warnings.append
    )


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_aside(path, b"old")

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_room)
    message = sentence(files.write_aside, path, b"new")
    assert message == f"cannot write {path}: No space left on device."
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"old")]


def test_torch_still_writes_what_the_checksum_relies_on():
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    assert buffer.getvalue()[-22:-18] == checkpoint.ZIP_END
