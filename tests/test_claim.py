"""One start at a time holds a run directory; one that was suspended harms nothing when it wakes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from gan_mpi import files
from gan_mpi.errors import UserError
from gan_mpi.runs import claim
from gan_mpi.runs.claim import Claim
from gan_mpi.runs.segments import read_segments

TRAIN = (
    "train",
    "--glyphs",
    "64",
    "--batch",
    "16",
    "--checkpoint-every",
    "200",
    "--run-dir",
    "run",
)
QUICK = """
from gan_mpi.runs import claim
claim.BEAT, claim.STILL, claim.PAUSE = 0.2, 1.5, 0.05
from gan_mpi.__main__ import main
main()
"""

# One thread: those of two runs on few cores would wait for each other's turns.
HOW = {"fresh": True, "code": QUICK, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def quick(monkeypatch):
    for name, seconds in (("BEAT", 0.1), ("STILL", 1.0), ("PAUSE", 0.02)):
        monkeypatch.setattr(claim, name, seconds)


def test_it_is_taken_freed_and_taken_with_a_greater_number(tmp_path, quick):
    run = tmp_path / "run"
    with Claim("7 of Slurm") as first:
        first.take(run)
        first.take(run)
        assert first.number == 1
        said = json.loads((run / "claim-000001.json").read_text())
        assert (said["process"], said["job"], said["free"]) == (os.getpid(), "7 of Slurm", False)
    with Claim() as second:
        second.take(run)
        assert second.number == 2
        assert [path.name for path in run.iterdir()] == ["claim-000002.json"]


def test_another_job_is_refused_and_the_same_one_waits(tmp_path, quick):
    holder, stops = Claim("7"), []
    holder.take(tmp_path)
    for job in ("8", ""):
        with pytest.raises(UserError, match="is being trained by another start .process") as error:
            Claim(job).take(tmp_path)
        assert error.value.exit_code == 2 and "job 7" in str(error.value)
    with pytest.raises(UserError, match="by an older start of this job") as error:
        Claim("7", lambda: stops.append(1) or len(stops) > 3).take(tmp_path)
    assert error.value.exit_code == 75
    threading.Timer(0.5, holder.release).start()
    with Claim("7") as later:
        later.take(tmp_path)
        assert later.number == 2


def test_one_of_many_gets_it(tmp_path, quick):
    claims, refused = [Claim() for _ in range(8)], []

    def take(each):
        try:
            each.take(tmp_path)
        except UserError:
            refused.append(each)

    threads = [threading.Thread(target=take, args=[each]) for each in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7
    for each in claims:
        each.release()


def test_a_claim_whose_process_is_gone_falls_at_once(tmp_path):
    code = "import os, sys, pathlib; from gan_mpi.runs.claim import Claim; "
    code += "Claim().take(pathlib.Path(sys.argv[1])); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    began = time.monotonic()
    with Claim() as later:
        later.take(tmp_path)
        assert later.number == 2 and time.monotonic() - began < 2


@pytest.mark.parametrize("content", [None, "", "{", "[1]", '{"beat": 1}'])
def test_one_of_another_machine_that_stands_still_falls_after_a_while(
    tmp_path, quick, monkeypatch, content
):
    monkeypatch.setattr(claim, "STILL", 0.3)
    holder = Claim()
    holder.take(tmp_path)
    path = tmp_path / "claim-000001.json"
    said = json.loads(path.read_text())
    holder.release()
    path.write_text(json.dumps({**said, "machine": "other"}) if content is None else content)
    began = time.monotonic()
    with Claim() as later:
        later.take(tmp_path)
        assert 0.25 < time.monotonic() - began < 5 and later.number == 2


def test_without_hard_links_a_claim_is_exclusive_too(tmp_path, quick, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(claim.os, "link", refuse)
    with Claim() as one:
        one.take(tmp_path)
        with pytest.raises(UserError, match="another start"):
            Claim().take(tmp_path)


def test_a_holder_whose_number_was_taken_changes_nothing(tmp_path):
    holder = Claim()
    holder.take(tmp_path)
    (tmp_path / "old").write_text("old")
    (tmp_path / "claim-000001.json").rename(tmp_path / "claim-000002.json")  # by the next one
    for change in (
        lambda: files.write_aside(tmp_path / "old", b"new"),
        lambda: files.append_line(tmp_path / "old", "new"),
        lambda: files.remove(tmp_path / "old"),
        lambda: files.sweep(tmp_path),
    ):
        with pytest.raises(UserError, match="another start has taken"):
            change()
    holder.release()
    assert (tmp_path / "old").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claim-000002.json", "old"]


def test_a_start_that_fails_leaves_no_folder_of_its_own(gan_mpi, tmp_path):
    words = (*TRAIN, "--transfer", "nothing")
    assert gan_mpi(*words, size=2).returncode == 2
    assert not (tmp_path / "run").exists()


def test_the_folder_of_a_failed_start_stays_where_another_has_taken_it(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UserError, match="it fails"), Claim() as first:
        first.take(run)
        (run / "claim-000001.json").rename(run / "claim-000002.json")  # in effect
        raise UserError("it fails")
    assert [path.name for path in run.iterdir()] == ["claim-000002.json"]


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def trains(run):
    return (run / "stats.jsonl").exists() and (run / "stats.jsonl").stat().st_size


@pytest.mark.slow
@pytest.mark.launch
def test_a_suspended_start_is_replaced_and_ends_when_it_wakes(start, tmp_path):
    run = tmp_path / "run"
    first = start(*TRAIN, "--steps", "20000", **HOW)
    wait_for(lambda: trains(run))
    refused = start(*TRAIN, "--steps", "20000", **HOW)
    _, said = refused.communicate(timeout=60)
    assert refused.returncode == 2 and said.count("Error: ") == 1
    assert "run is being trained by another start" in said
    first.send_signal(signal.SIGSTOP)
    second = start(*TRAIN, "--steps", "20000", **HOW)
    wait_for(lambda: (run / "claim-000002.json").exists() and len(read_segments(run)) == 2)
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 1, said
    assert "another start has taken run while this one stood still" in said
    assert "Traceback" not in said
    wait_for(lambda: read_segments(run)[1]["state"] == "running")
    second.send_signal(signal.SIGUSR1)
    assert second.wait(60) == 75
    states = [(each["id"], each["state"]) for each in read_segments(run)]
    assert states == [(1, "lost"), (2, "stopped (SIGUSR1)")]
    steps = [json.loads(line)["step"] for line in (run / "stats.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    third = start(*TRAIN, "--steps", str(steps[-1] + 5), **HOW)
    assert third.wait(60) == 0
