"""What goes wrong in a GAN is said while it does."""

import json
import shutil

import pytest

from gan_mpi.config.resolve import new_config
from gan_mpi.extras.penalties import penalties_of_slope_0
from gan_mpi.recording.alarms import COLLAPSE, alarms, alarms_of_evaluation

SOUND = {
    "loss_D": 1.1,
    "loss_G": 1.9,
    "D_real": 0.6,
    "D_fake": 0.4,
    "logit_real": 0.5,
    "logit_fake": -0.5,
    "gradient_G": 0.7,
    "gradient_D": 2.0,
    "spread": 0.9,
}
LATER = {"G": 200, "D": 400}
EARLY = {"G": 50, "D": 100}
# A generator that draws the same from any latent, in the place of dense's.
ONE_OUTPUT = """
from dataclasses import replace
from unittest.mock import patch
from torch import nn
from gan_mpi.networks.build import ARCHITECTURES
dense = ARCHITECTURES["dense"]
class Same(nn.Module):
    def __init__(self, *arguments):
        super().__init__()
        self.inner = dense.generator(*arguments)
    def forward(self, latents):
        return self.inner(latents * 0.0)
from gan_mpi.__main__ import main
with patch.dict(ARCHITECTURES, dense=replace(dense, generator=lambda *a: nn.Sequential(Same(*a)))):
    main()
"""


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"penalty_r1": 0.0}, "which --r1 should bound, is 0 at all reals, and teaches"),
        ({"penalty_r1": 1e-30}, None),
        ({"penalty_r1": 0.0, "penalty_r2": 0.0}, "--r1 and --r2 should bound, is 0 at all reals a"),
        ({"penalty_gradient": 80 * (1 - 2e-6)}, "--gradient-penalty should bound, is 0 at all mix"),
        ({"penalty_gradient": 79.0}, None),
    ],
)
def test_a_penalty_that_finds_no_slope_is_noticed(figures, said):
    config = new_config({"r1": 1.0, "r2": "1:0", "gradient_penalty": 10.0, "penalty_every": 8})
    found = alarms(SOUND | figures, LATER, flat=penalties_of_slope_0(config, 100))
    over = alarms(SOUND | {"penalty_r2": 0.0}, LATER, flat=penalties_of_slope_0(config, 300))
    assert not over, "it has no weight any more"
    assert ["flat discriminator"] * bool(said) == list(found)
    assert said is None or said in found["flat discriminator"]


def test_a_dead_discriminator_is_seen_early():
    """From the same score for everything it teaches nothing, long before samples tell."""
    dead = {**SOUND, "D_real": 0.5, "D_fake": 0.5, "gradient_G": 0.0, "spread": 0.01}
    assert list(alarms(dead, EARLY)) == ["vanishing scores"]
    assert alarms(dead, {"G": 49, "D": 100}) == {}


def test_a_sound_run_raises_none():
    assert alarms(SOUND, LATER) == {}
    near_the_end = {"D_real": 0.5002, "D_fake": 0.4998, "gradient_G": 0.08}  # of preset small
    assert alarms({**SOUND, **near_the_end}, LATER) == {}
    only_G = {k: v for k, v in SOUND.items() if k in ("loss_G", "gradient_G", "spread")}
    assert alarms(only_G, LATER) == {}


@pytest.mark.parametrize(
    ("changes", "name", "figure"),
    [
        ({"loss_D": 0.004, "D_real": 0.999, "D_fake": 0.001}, "D has won", "0.004"),
        ({"gradient_G": 250.0}, "gradient of G", "250"),
        ({"gradient_D": 101.0}, "gradient of D", "101"),
        ({"logit_fake": -60.0}, "exploding scores", "60"),
        ({"D_real": 0.5002, "D_fake": 0.5, "gradient_G": 1e-5}, "vanishing scores", "D(x) 0.500"),
        ({"spread": 0.01}, COLLAPSE, "1.0%"),
    ],
)
def test_each_fault_raises_its_alarm_with_its_figure(changes, name, figure):
    found = alarms({**SOUND, **changes}, LATER)
    assert list(found) == [name]
    assert figure in found[name]


def test_scores_of_a_critic_are_no_probabilities():
    critic = {"loss_D": -31.0, "D_real": 0.984, "D_fake": 0.984, "logit_fake": -60.0}
    critic |= {"gradient_G": 1e-5, "gradient_D": 101.0}
    assert list(alarms({**SOUND, **critic}, LATER, of_a_critic=True)) == ["gradient of D"]


def test_a_critic_that_tells_apart_has_not_won(gan_mpi):
    clipped = ("--loss", "wasserstein", "--clip", "0.1")
    result = gan_mpi("train", "--glyphs", "500", "--batch", "32", "--steps", "20", *clipped)
    assert result.returncode == 0
    assert "has won" not in result.stderr


def test_alike_samples_and_scores_are_no_fault_of_a_run_that_begins():
    dead = {**SOUND, "D_real": 0.5, "D_fake": 0.5, "gradient_G": 0.0}
    alike = {**dead, "spread": 0.01}
    assert alarms({**SOUND, "spread": 0.01}, {"G": 199, "D": 400}) == {}
    assert alarms(dead, {"G": 49, "D": 400}) == {}
    assert len(alarms(alike, LATER)) == 2


def test_classes_that_are_hardly_drawn_are_named():
    def found(*missing, fewest_missing=0):
        shares = [0.0 if digit in missing else 0.1 for digit in range(10)]
        shares[3] = 1.0 - sum(shares) + shares[3]
        figures = {"histogram": shares, "missing": list(missing)}
        return alarms_of_evaluation({"figures": figures}, fewest_missing)

    assert found() == {}
    assert found(6, 7) == {
        "missing modes": "2 of 10 classes are hardly drawn: 6, 7; 30% of the samples are taken "
        "for class 3"
    }
    assert list(found(0, 1, 2, 5, 6, 7)) == [COLLAPSE]
    never_drawn = found(0, 1, 2, 5, 6, 7, fewest_missing=6)
    assert list(never_drawn) == ["missing modes"]


def test_a_generator_with_one_output_is_warned_of_and_can_end_the_run(gan_mpi, tmp_path):
    """The second run is the first one, going on before the step of the warning."""
    options = ("train", "--glyphs", "500", "--batch", "32", "--steps", "208", "--d-steps", "1")
    for name, extra, code in (("on", ("--keep", "all"), 0), ("off", ("--stop-on-collapse",), 76)):
        if name == "off":
            shutil.copytree(tmp_path / "on", tmp_path / "off")
            (tmp_path / "off" / "checkpoint-000208.pt").unlink()
        every = ("--checkpoint-every", "196", "--run-dir", name)
        result = gan_mpi(*options, *every, *extra, size=2, code=ONE_OUTPUT)
        assert result.returncode == code, result.stderr
        (warning,) = (line for line in result.stderr.splitlines() if "mode collapse" in line)
        assert warning.startswith("Warning: step 200: the generator draws always the same")
        lines = (tmp_path / name / "stats.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        assert [r["step"] for r in records if COLLAPSE in r.get("alarms", {})] == [200]
    assert "stopped after 201 of 208 steps" in result.stdout
    assert "(mode collapse)" in result.stdout
    assert (tmp_path / "off" / "checkpoint-000201.pt").exists()


def test_alarms_do_not_wait_for_a_status_line_that_is_far_off(gan_mpi, tmp_path):
    """Status lines are 204 steps apart; samples count from 200 updates of G on."""
    options = ("train", "--glyphs", "500", "--batch", "8", "--steps", "10200", "--d-steps", "1")
    result = gan_mpi(*options, "--run-dir", "run", "--stop-on-collapse", size=2, code=ONE_OUTPUT)
    assert result.returncode == 76, result.stderr
    (warning,) = (line for line in result.stderr.splitlines() if "mode collapse" in line)
    assert warning.startswith("Warning: step 200: the generator draws always the same")
    assert "stopped after 201 of 10200 steps" in result.stdout
    assert not (tmp_path / "run" / "stats.jsonl").read_text()


@pytest.mark.slow
def test_what_was_seen_between_records_is_in_the_next(gan_mpi, tmp_path):
    sooner = "with patch('gan_mpi.recording.journal.WATCH', 2), patch.dict(\n"
    sooner += "    alarms.__dict__, FIRST_UPDATES=3), patch.dict("
    code = "from gan_mpi.recording import alarms\n" + ONE_OUTPUT.replace("with patch.dict(", sooner)
    options = ("train", "--glyphs", "100", "--batch", "8", "--steps", "400", "--d-steps", "1")
    result = gan_mpi(*options, "--run-dir", "run", size=2, code=code)
    assert result.returncode == 0, result.stderr
    assert "Warning: step 4: the generator draws always the same" in result.stderr
    lines = (tmp_path / "run" / "stats.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [each["step"] for each in records if COLLAPSE in each.get("alarms", {})] == [8]
