"""What CNTK published of Basic_GAN_Distributed.py, and its own test, on real MNIST."""

import json
import re

import pytest


def losses(run_dir):
    """Return the first and the last mean losses of D and of G, over 12 and 6 minibatches."""
    text = (run_dir / "log.txt").read_text()
    found = [
        (int(stop) - int(start) + 1, float(loss), int(count))
        for start, stop, loss, count in re.findall(
            r"^ Minibatch\[ *(\d+)- *(\d+)\]: loss = (\S+) \* (\d+);$",
            text,
            re.MULTILINE,
        )
    ]
    of_D, of_G = found[0::2], found[1::2]
    assert [len(of_D), len(of_G)] == [50, 50]
    assert {line[0] for line in of_D} == {12} and {line[0] for line in of_G} == {6}
    assert {line[2] for line in of_D} == {12288} and {line[2] for line in of_G} == {6144}
    return of_D[0][1], of_G[0][1], of_D[-1][1], of_G[-1][1]


def assert_as_published(run_dir):
    """The bands around the published .4607, 2.7450, .7946 and 1.9898."""
    first_D, first_G, last_D, last_G = losses(run_dir)
    assert first_D == pytest.approx(0.46, abs=0.12)
    assert first_G == pytest.approx(2.74, abs=0.25)
    assert last_D == pytest.approx(0.79, abs=0.15)
    assert last_G == pytest.approx(1.99, abs=0.20)


@pytest.mark.slow
def test_cntks_own_test_passes_and_the_losses_are_as_published(gan_mpi, tmp_path, mnist):
    """The losses on two ranks, which do not depend on their number; its pattern on four."""
    command = ("train", "--datadir", mnist, "--log-format", "cntk", "--run-dir")
    pattern = r"Training loss of the generator at worker: \{.+?\} is: \{.+?\}"
    for size, name, length in ((2, "run", ()), (4, "short", ("--steps", "6"))):
        result = gan_mpi(*command, name, *length, size=size, timeout=120)
        assert len(re.findall(pattern, result.stdout)) == size
    assert_as_published(tmp_path / "run")


@pytest.mark.long
def test_the_losses_are_as_published_with_other_seeds(mpirun, tmp_path, mnist):
    runs = [
        {
            "datadir": str(mnist),
            "seed": seed,
            "log_format": "cntk",
            "run_dir": str(seed),
        }
        for seed in (1, 2)
    ]
    assert mpirun(4, "train_outcomes", runs, str(tmp_path), timeout=200) == [[0, 0]] * 4
    for seed in ("1", "2"):
        assert_as_published(tmp_path / seed)


@pytest.mark.long
def test_the_first_15_losses_do_not_depend_on_the_ranks(mpirun, tmp_path, mnist):
    given = {"datadir": str(mnist), "steps": 15}
    runs = [[size, {**given, "run_dir": f"ranks{size}"}] for size in (1, 2, 3, 4)]
    assert mpirun(4, "train_on", runs, str(tmp_path))[0] == [0] * 4
    found = []
    for size in (1, 2, 3, 4):
        lines = (tmp_path / f"ranks{size}" / "stats.jsonl").read_text().splitlines()
        records = map(json.loads, lines)
        found.append([(record["loss_G"], record["loss_D"]) for record in records])
    assert all(len(records) == 15 for records in found)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert one == pytest.approx(two, abs=1e-4)
