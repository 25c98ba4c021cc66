"""What a run's records say is believed only if it can be shown: each number, and each left out."""

import copy
import json

import jinja2
import pytest

from gan_mpi.errors import UserError
from gan_mpi.programs import report
from gan_mpi.programs.status import page, read_status, summary
from gan_mpi.runs.evaluations import evaluation_lines, read_evaluations

OTHERS = (None, -9, 0, 1e308, 10**400, "x", [], {}, [-9], [{}], True)
IDENTITY = {"name": "x", "sha256": "a" * 64, "accuracy": 0.9}
FIGURES = {"frechet": 9.0, "kernel": 0.1, "precision": 0.5, "recall": 0.4, "missing": [1]}
FIGURES |= {"histogram": [0.9, 0.1], "agreement": [0.5, 0.5], "score": 1.2, "kernel_error": 0.1}
DATA = {"name": "x", "source": "x", "datadir": None, "glyphs": 9, "count": 9}
DATA |= {"shape": [1, 28, 28], "sha256": "a", "class_names": ["a", "b"], "label_counts": [5, 4]}
RECORDS = {
    "config.json": {"config": {"preset": "basic", "steps": 9}, "data": DATA},
    "stats.jsonl": {
        "step": 3,
        "epoch": 0.5,
        "kimg": 1.0,
        "seconds_per_step": 0.1,
        "images_per_second": 5.0,
        "time": 1.0,
        "loss_G": 1.5,
        "D_real": 0.5,
        "communication": 0.1,
        "updates": {"G": 1, "D": 2},
    },
    "segments.jsonl": {
        "id": 1,
        "date": "2026-01-01T10:00:00",
        "first_step": 1,
        "ranks": 2,
        "hosts": ["a"],
        "devices": ["cpu"],
        "state": "running",
        "versions": {"torch": "2"},
        "threads": [1, 2],
        "last_step": 3,
        "images": 9,
        "seconds": 1.0,
        "node_hours": 0.5,
    },
    "metrics.jsonl": {
        "step": 3,
        "kimg": 1.0,
        "data": "x",
        "samples": 9,
        "real": 9,
        "floor_samples": 9,
        "seconds": 1.0,
        "time": 1.0,
        "class_names": ["a", "b"],
        "extractor": IDENTITY,
        "figures": FIGURES,
        "floor": {"frechet": 0.1, "kernel": 0.1, "histogram": [0.5, 0.5]},
    },
}


def places(record, at=()):
    """Yield the way to each value of a record, those within others too."""
    for key, value in record.items() if isinstance(record, dict) else enumerate(record):
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from places(value, (*at, key))


def changed(record):
    """Yield what was changed, and the record with it: each value left out, or another."""
    for *way, key in places(record):
        for other in ("left out", *OTHERS):
            new = copy.deepcopy(record)
            inner = new
            for each in way:
                inner = inner[each]
            inner[key] = other
            if other == "left out":
                del inner[key]
            yield (*way, key, other), new


def write(folder, records):
    for name, record in records.items():
        (folder / name).write_text(json.dumps(record) + "\n")


def show(folder):
    """Show all that status, report and evaluate make of a run's records."""
    status = read_status(folder)
    texts = [*page(status), *summary([status]), json.dumps(status)]
    for evaluation in read_evaluations(folder):
        texts += evaluation_lines(evaluation)
    return texts, report.page([folder])


@pytest.fixture
def compiled_once(monkeypatch):
    """Compile the page's template once, of which one time takes more than all else here."""
    templates, compile_it = {}, jinja2.Environment.from_string

    def once(environment, text):
        if text not in templates:
            templates[text] = compile_it(environment, text)
        return templates[text]

    monkeypatch.setattr(jinja2.Environment, "from_string", once)


@pytest.mark.usefixtures("compiled_once")
@pytest.mark.parametrize("name", RECORDS)
def test_what_cannot_be_shown_is_not_believed(name, tmp_path):
    write(tmp_path, RECORDS)
    whole, _ = show(tmp_path)
    assert "step 3 of 9" in str(whole) and "9 samples against 9 test images" in str(whole)
    seen = 0
    for what, record in changed(RECORDS[name]):
        write(tmp_path, {name: record})
        try:
            show(tmp_path)
        except UserError:
            seen += 1
        except Exception as error:
            raise AssertionError(f"{name}: {what}: {error!r}") from error
    assert seen or name.endswith(".jsonl")
