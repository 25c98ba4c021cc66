"""Sums that go on while ranks compute: the same bits, whatever is hidden."""

import json

import pytest

BASE = {"batch": 10, "latent_dim": 10}
LOCAL = {"network": "dcgan", "batch_norm": "local", "latent_dim": 8, "batch": 6}
NO_NORM = {"network": "dcgan", "g_norm": "instance", "d_norm": "none", "latent_dim": 8, "batch": 6}
HIDDEN = {
    "basic": (BASE, ["fakes", "latents", "reals", "samples"]),
    "D, D, G, G": (BASE | {"g_steps": 2}, ["fakes", "latents", "reals", "samples"]),
    "repeated latents": (
        BASE | {"g_steps": 2, "g_latents": "repeated"},
        ["fakes", "latents", "reals", "samples"],
    ),
    "G first": (BASE | {"first": "generator", "d_steps": 1}, ["latents", "reals", "samples"]),
    "separate updates": (BASE | {"d_update": "separate"}, ["fakes", "latents", "reals", "samples"]),
    "noise, penalties, replay": (
        BASE | {"instance_noise": 0.3, "gradient_penalty": 1.0, "r1": 1.0, "replay": 2},
        ["fakes", "latents", "reals", "samples"],
    ),
    "auxiliary, dropout": (
        BASE | {"conditional": "auxiliary", "g_dropout": 0.3, "ema": 0.1, "real_targets": "0.8-1"},
        ["fakes", "latents", "reals", "samples"],
    ),
    "spectral norm": (BASE | {"d_norm": "spectral"}, ["fakes", "latents", "reals", "samples"]),
    "local batch norm": (LOCAL, ["fakes", "latents", "reals", "samples"]),
    "no batch norm": (NO_NORM, ["fakes", "latents", "reals", "samples"]),
    "batch norm of G": ({"preset": "lightning", "batch": 6}, ["latents", "reals"]),
    "bf16": (BASE | {"precision": "bf16"}, ["fakes", "latents", "reals", "samples"]),
    "more ranks than images": (BASE | {"batch": 2}, ["fakes", "latents", "reals", "samples"]),
}
WAITING = {
    "batch norm of both": {"network": "dcgan", "latent_dim": 8, "batch": 6},
    "balance": BASE | {"schedule": "balance"},
}
CASES = {name: given for name, (given, _) in HIDDEN.items()} | WAITING
QUICK = ("basic", "repeated latents", "batch norm of both", "balance")


def cases(names):
    return [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in names]


@pytest.fixture(scope="module")
def quick(mpirun):
    return mpirun(3, "overlapped", [2, 3], 4, [(name, CASES[name]) for name in QUICK])[0]


@pytest.fixture(scope="module")
def slow(mpirun):
    others = [(name, given) for name, given in CASES.items() if name not in QUICK]
    return mpirun(3, "overlapped", [2, 3], 4, others, timeout=100)[0]


@pytest.fixture
def found(request, name):
    return request.getfixturevalue("quick" if name in QUICK else "slow")[name]


@pytest.mark.parametrize("size", ["2", "3"])
@pytest.mark.parametrize("name", cases(CASES))
def test_bits_are_the_same_with_and_without_overlap(found, name, size):
    waiting, whole, (with_it, without, _), _ = found[size]
    assert waiting == 0
    assert with_it == without
    assert whole < (1e-2 if name == "bf16" else 1e-4), "other sums, but for rounding"


@pytest.mark.parametrize("name", cases(HIDDEN))
def test_the_next_update_begins_while_gradients_are_summed(found, name):
    assert found["2"][3] == HIDDEN[name][1]
    with_it, _, whole = found["2"][2]
    assert with_it > 2 * whole, "there are pieces"


@pytest.mark.parametrize("name", WAITING)
def test_where_nothing_can_be_hidden_ranks_wait_for_one_sum(found, name):
    _, _, messages, ahead = found["2"]
    assert ahead == []
    assert len(set(messages)) == 1


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


TRAIN = ("train", "--glyphs", 64, "--batch", 16, "--steps", 2)


@pytest.mark.parametrize(
    ("options", "said", "hides"),
    [
        ((), None, False),
        (("--no-overlap",), None, False),
        (("--overlap",), "the next update begins while gradients are summed.", True),
        (
            ("--overlap", "--preset", "lightning"),
            "begins while gradients are summed, but for what G computes.",
            True,
        ),
        (
            ("--overlap", "--network", "dcgan"),
            "G has batch norm, which sums over the ranks itself, and D has batch norm, which",
            False,
        ),
        (
            ("--overlap", "--schedule", "balance"),
            "ranks wait while gradients are summed: --schedule balance chooses",
            False,
        ),
    ],
)
def test_a_run_says_what_it_hides(gan_mpi, tmp_path, options, said, hides):
    result = gan_mpi(*TRAIN, *options, "--run-dir", tmp_path / "run", size=2)
    assert result.returncode == 0, result.stderr
    spoken = [line for line in result.stdout.splitlines() if "gradients are summed" in line]
    assert len(spoken) == (said is not None)
    assert said is None or said in spoken[0]
    records = lines_of(tmp_path / "run" / "stats.jsonl")
    assert all(("hidden" in record) == hides for record in records)
    assert not hides or 0 < records[-1]["hidden"] < 1
    assert result.stdout.count(" hidden)") == (len(records) if hides else 0)
    (segment,) = lines_of(tmp_path / "run" / "segments.jsonl")
    assert segment.get("pieces", False) == (hides or options == ("--no-overlap",))


def test_one_rank_hides_nothing_and_does_not_speak_of_it(gan_mpi):
    result = gan_mpi(*TRAIN, "--overlap", size=1)
    assert result.returncode == 0, result.stderr
    assert "gradients are summed" not in result.stdout
