"""Sums that go on while ranks compute: the same bits, whatever is hidden."""

import json
import re

import pytest
from conftest import but_slow

from gan_mpi.recording.log_formats import WIDTH, status_line

ALL = ["fakes", "latents", "reals", "samples"]
BASE = {"batch": 10, "latent_dim": 10}
LOCAL = {"network": "dcgan", "batch_norm": "local", "latent_dim": 8, "batch": 6}
# In fp64: what comes before instance norm has no gradient but rounding, which fp32 makes large.
NORM_OF_D = {"network": "dcgan", "g_norm": "instance", "latent_dim": 8, "batch": 6}
NORM_OF_D |= {"precision": "fp64"}
HIDDEN = {
    "basic": (BASE, ALL),
    "D, D, G, G": (BASE | {"g_steps": 2}, ALL),
    "repeated latents": (
        BASE | {"g_steps": 2, "g_latents": "repeated"},
        ALL,
    ),
    "G first": (BASE | {"first": "generator", "d_steps": 1}, ["latents", "reals", "samples"]),
    "separate updates": (BASE | {"d_update": "separate"}, ALL),
    "noise, penalties, replay": (
        BASE | {"instance_noise": 0.3, "gradient_penalty": 1.0, "r1": 1.0, "replay": 2},
        ALL,
    ),
    "auxiliary, dropout": (
        BASE | {"conditional": "auxiliary", "g_dropout": 0.3, "ema": 0.1, "real_targets": "0.8-1"},
        ALL,
    ),
    "spectral norm": (BASE | {"d_norm": "spectral"}, ALL),
    "local batch norm": (LOCAL, ALL),
    "no batch norm": (NORM_OF_D | {"d_norm": "none"}, ALL),
    "batch norm of G": ({"preset": "lightning", "batch": 6}, ["latents", "reals"]),
    "batch norm of D": (NORM_OF_D, ALL),
    "D alone": (BASE | {"train": "discriminator"}, ["fakes", "latents", "reals"]),
    "in parts on some ranks": (BASE | {"micro_batch": 3}, ALL),
    "pairs": (BASE | {"loss": "relativistic", "g_steps": 2}, ALL),
    "pairs, G first": (
        BASE | {"loss": "relativistic", "first": "generator", "d_steps": 1},
        ["latents", "reals", "samples"],
    ),
    "bf16": (BASE | {"precision": "bf16"}, ALL),
    "more ranks than images": (BASE | {"batch": 2}, ALL),
}
WAITING = {
    "batch norm of both": {"network": "dcgan", "latent_dim": 8, "batch": 6},
    "balance": BASE | {"schedule": "balance"},
    "G alone": BASE | {"train": "generator"},
}
CASES = {name: given for name, (given, _) in HIDDEN.items()} | WAITING
QUICK = ("basic", "in parts on some ranks", "balance")


@pytest.fixture
def found(answer, name):
    return answer("overlapped", CASES, QUICK, name)


@pytest.mark.parametrize("size", ["2", "3"])
@pytest.mark.parametrize("name", but_slow(CASES, QUICK))
def test_bits_are_the_same_with_and_without_overlap(found, name, size):
    waiting, whole = found[size]["apart"]
    assert waiting == 0
    with_it, without, _ = found[size]["messages"]
    assert with_it == without
    assert whole < (1e-2 if name == "bf16" else 1e-4), "other sums, but for rounding"


@pytest.mark.parametrize("size", ["2", "3"])
@pytest.mark.parametrize("name", but_slow(CASES, QUICK))
def test_a_resumed_run_is_the_same_to_the_bit(found, name, size):
    assert found[size]["resumed"] == [True, 0]


@pytest.mark.parametrize("name", but_slow(HIDDEN, QUICK))
def test_the_next_update_begins_while_gradients_are_summed(found, name):
    size = "3" if name == "in parts on some ranks" else "2"  # where root has one part
    assert found[size]["ahead"] == HIDDEN[name][1]
    assert found[size]["sent ahead"] == 0
    with_it, _, whole = found[size]["messages"]
    assert len(with_it) > len(whole), "there are pieces"
    assert found[size]["within"] > 0, "some cross from within a backward"


@pytest.mark.parametrize("name", but_slow(WAITING, QUICK))
def test_where_nothing_can_be_hidden_ranks_wait_for_one_sum(found, name):
    assert found["2"]["ahead"] == []
    with_it, without, whole = found["2"]["messages"]
    assert with_it == without == whole


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
        pytest.param(
            ("--overlap", "--network", "dcgan"),
            "G and D cannot compute ahead of batch norm's own sums",
            False,
            marks=pytest.mark.slow,
        ),
        (
            ("--overlap", "--micro-batch", 4),
            "ranks wait while gradients are summed: G and D go through the networks in parts",
            False,
        ),
        (
            ("--overlap", "--explain"),
            "G and D are shown one update after the other (--explain)",
            False,
        ),
        pytest.param(
            *(("--no-overlap", "--network", "dcgan"), None, False), marks=pytest.mark.slow
        ),
        (
            ("--overlap", "--schedule", "balance"),
            "ranks wait while gradients are summed: G and D are chosen from by sums of both",
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
    assert len(re.findall(r"comm +\d+%\+\d+%", result.stdout)) == (len(records) if hides else 0)
    (segment,) = lines_of(tmp_path / "run" / "segments.jsonl")
    assert segment.get("pieces", False) == (hides or options == ("--no-overlap",))


def test_one_rank_hides_nothing_and_does_not_speak_of_it(gan_mpi):
    result = gan_mpi(*TRAIN, "--overlap", size=1)
    assert result.returncode == 0, result.stderr
    assert "gradients are summed" not in result.stdout


@pytest.mark.parametrize(("steps", "seconds"), [(300, 7.0), (40_000, 754.0)])
def test_a_status_line_has_room_for_what_is_hidden(steps, seconds):
    record = {"step": steps, "loss_G": 0.6931, "loss_D": 1.3863, "D_real": 0.5, "D_fake": 0.5}
    record |= {"images_per_second": 31_000.0, "communication": 0.12, "hidden": 0.34}
    line = status_line(record, steps, seconds, with_rates=False)
    assert "comm 12%+34%" in line and len(line) <= WIDTH
