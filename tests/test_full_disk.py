"""A disk that is full, or out of reach, does not end a run that has begun."""

import contextlib
import subprocess
import time

import pytest
import torch
from conftest import MAIN
from test_claim import trains, wait_for
from test_resume import assert_same_bits, last_state

from gan_mpi import files
from gan_mpi.errors import Refused, UserError
from gan_mpi.runs import checkpoint
from gan_mpi.runs.claim import Claim
from gan_mpi.runs.directory import list_checkpoints
from gan_mpi.runs.stats import read_stats

TRAIN = ("train", "--glyphs", 50, "--batch", 30, "--run-dir", "run")


@contextlib.contextmanager
def small_disk(folder, size):
    """Mount a file system of a size on a folder, which is made."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


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
    with small_disk(tmp_path / "disk", "3m") as disk:
        tensors = {str(number): torch.zeros(250_000) for number in range(6)}
        with pytest.raises(Refused, match="No space left on device"):
            checkpoint.write_checkpoint(disk, 3, {"G": tensors})
        assert not [*disk.iterdir()]


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
    with small_disk(tmp_path / "run", "20m") as disk:
        options = ("--steps", 4000, "--checkpoint-every", 5, "--checkpoint-retries", 1000)
        process = start(*TRAIN, *options, size=2, PYTHONUNBUFFERED="1")
        wait_for(lambda: trains(disk))
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
        wait_for(lambda: list_checkpoints(disk)[0][0] > newest)
        (disk / "STOP").touch()
        process.communicate(timeout=60)
        assert process.returncode == 75
        steps = [record["step"] for record in read_stats(disk)]
        assert steps == list(range(steps[0], steps[-1] + 1, steps[0])), "no line is lost"
        stopped = trained(disk)
    gan_mpi(*TRAIN[:-1], "undisturbed", "--steps", stopped[".progress.step"], size=2)
    assert_same_bits(stopped, trained(tmp_path / "undisturbed"))
