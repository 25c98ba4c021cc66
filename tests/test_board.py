"""TensorBoard gets a copy of what is recorded, from rank 0, once."""

import json

import pytest
from conftest import MAIN


def scalars(folder):
    """Return {tag: {step: value}} and the tags of pictures of a folder of event files."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    found = {
        tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags["scalars"]
    }
    pictures = {tag: [e.step for e in events.Images(tag)] for tag in tags["images"]}
    return found, pictures


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_shows_what_is_recorded_even_after_a_resume(gan_mpi, tmp_path):
    command = ("train", "--glyphs", "60", "--batch", "32", "--tensorboard")
    for steps in ("4", "8"):
        given = (*command, "--steps", steps, "--checkpoint-every", "4")
        result = gan_mpi(*given, "--run-dir", "run", size=2)
        assert result.returncode == 0, result.stderr
    found, pictures = scalars(tmp_path / "run" / "tensorboard")
    lines = (tmp_path / "run" / "stats.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["step"] for record in records] == list(range(1, 9))
    for tag, name in (("loss/generator", "loss_G"), ("score/fakes", "D_fake")):
        expected = {record["step"]: record[name] for record in records}
        assert found[tag] == pytest.approx(expected, rel=1e-6)
    assert pictures == {"samples": [0, 4, 8]}
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2


@pytest.mark.launch
def test_a_missing_tensorboard_is_named_before_any_work(launch, tmp_path):
    given = ("train", "--glyphs", "60", "--tensorboard", "--run-dir", "run")
    code = f"import sys; sys.modules['tensorboard'] = None; {MAIN}"
    result = launch(*given, size=2, code=code)
    assert result.returncode == 1
    assert result.stderr.count("--tensorboard: the package tensorboard is not installed") == 1
    assert not (tmp_path / "run").exists()
