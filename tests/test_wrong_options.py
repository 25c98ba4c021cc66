"""Options of train that are wrong, or contradict each other: each in one sentence."""

from pathlib import Path

import pytest

from gan_mpi.config.setting import is_possible
from gan_mpi.config.training import TrainConfig

TOP = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--batch", "0"),
            "Invalid value for '--batch': 0 is not in the range 1<=x<=16777216.",
        ),
        (("--bach", "1"), "No such option '--bach'. (Did you mean one of: '--batch'"),
        (
            ("--steps", "1", "--kimg", "1"),
            "--steps and --kimg exclude each other; give one.",
        ),
        (
            ("--datadir", "x", "--glyphs", "10"),
            "--datadir and --glyphs exclude each other",
        ),
        (
            ("--run-dir", "x", "--resume", "y"),
            "--run-dir and --resume exclude each other",
        ),
        (("-n", "4"), "(4): -n is --dry-run here; ranks are the launcher's, as in 'mpiexec -n 4 "),
        (("small",), "(small): a preset is named with its option, --preset small."),
        ((str(TOP),), "data are named with --datadir, a run to go on with --resume."),
        (("--steps", "9", "now"), "Got unexpected extra argument (now): train has options only."),
        (("--steps", "1e3"), "'--steps': '1e3' is not a whole number, such as 1000."),
        (("--dataset", "cifar10", "--glyphs", "90"), "--dataset cifar10 and --glyphs exclude each"),
        (("--samples", "9", "-n"), "'--samples': it is of evaluations, and this run makes none"),
        (("--g-latents", "repeated"), "'--g-latents': repeated, but G is updated once a step"),
        (("--average", "weights", "--batch-norm", "local"), "'--batch-norm': local, as it always"),
        (
            ("--train", "generator", "--d-lr", "1"),
            "'--d-lr': --train generator trains no discriminator, whose option it is",
        ),
        (
            ("--train", "generator", "--r1", "1"),
            "'--r1': --train generator trains no discriminator",
        ),
        (
            ("--train", "discriminator", "--ema", "5"),
            "'--ema': --train discriminator trains no gen",
        ),
        (("--r1", "1:2:3"), "'--r1': '1:2:3' is neither a number nor two like 0.05:0.005."),
        (("--r2", "1:"), "'--r2': '1:' is neither a number nor two like 0.05:0.005."),
        (("--r2", "1:-1"), "'--r2': -1.0 is not in the range x>=0."),
        (("--lr", "1e-3:x"), "'--lr': 'x' is not a valid float range."),
        (("--lr", "1e-3:0"), "'--lr': 0.0 is not in the range x>0."),
        (
            ("--augment", "cutout,blur"),
            "'blur' is not color, translation, cutout or adaptive.",
        ),
        (
            ("--augment-probability", "2"),
            "'--augment-probability': 2.0 is not in the range 0<=x<=1",
        ),
        (
            ("--augment", "adaptive", "--augment-probability", "0.5"),
            "'--augment-probability': --augment adaptive finds its own; leave one out",
        ),
        (
            ("--augment", "adaptive", "--loss", "wasserstein", "--clip", "1"),
            "'--augment': adaptive, but heights of a critic have no sign; leave adaptive out",
        ),
        (("--augment", "adaptive", "--train", "generator"), "but D, which is not trained, tells n"),
        (
            ("--preset", "paddle-mnist", "--ema", "0:5"),
            "'--ema': 0.0:5.0, but by --schedule balance nobody knows how often G is updated",
        ),
        (("--r1", "1:2", "--ramp-steps", "0"), "'--ramp-steps': 0 is not in the range"),
        (
            ("--augment", "adaptive", "--average", "weights"),
            "'--augment': adaptive, but with --average weights each site would find",
        ),
        (("--penalty-every", "8"), "'--penalty-every': there is no penalty; leave it out"),
        (("--r1", "1", "--ramp-steps", "8"), "'--ramp-steps': no setting goes from one number"),
        (
            ("--d-lr", "2e-4:1e-4", "--lr-schedule", "cosine"),
            "'--lr-schedule': cosine, but the learning rate goes 0.0002:0.0001 already",
        ),
        (
            ("--loss", "relativistic", "--schedule", "balance"),
            "'--schedule': balance, but --loss relativistic has one loss for both",
        ),
        (
            ("--loss", "relativistic", "--d-update", "separate"),
            "'--d-update': separate, but --loss relativistic compares reals with fakes; give joint",
        ),
        (
            ("--loss", "relativistic", "--replay", "2"),
            "'--replay': 2, but --loss relativistic compares each real with a new fake",
        ),
        (
            ("--loss", "relativistic", "--real-targets", "0.9"),
            "'--real-targets': --loss relativistic has no targets",
        ),
        (("--real-targets", "9e-1-1e-3"), "'9e-1-1e-3' is neither a number in 0..2 nor a range"),
        (("--lr", "0"), "Invalid value for '--lr': 0.0 is not in the range x>0."),
        (
            ("--device", "tpu"),
            "Invalid value for '--device': 'tpu' is not auto, cpu, cuda or",
        ),
        (("--device", ""), "Invalid value for '--device': '' is not auto, cpu, cuda or"),
        (
            ("--beta1", "0.5"),
            "Invalid value for '--beta1': fsadagrad has no beta1; it is for adam.",
        ),
        (
            ("--optimizer", "adam", "--g-momentum", "0.5"),
            "Invalid value for '--g-momentum': adam has no momentum; it is for fsadagrad and sgd.",
        ),
    ],
)
def test_wrong_options_are_named_with_what_would_do(gan_mpi, arguments, said):
    result = gan_mpi("train", *arguments)
    assert said in result.stderr
    assert (result.returncode, result.stdout) == (2, "")


@pytest.mark.parametrize("value", [0, 0.0, 3, 0.5, "3:0", "0.05:0.005"])
def test_a_setting_of_a_checkpoint_may_be_what_an_option_gives(value):
    assert is_possible(TrainConfig.__dataclass_fields__["r1"], value)


@pytest.mark.parametrize("value", [-1, "3:-1", "3:x", ":", True, None, float("nan")])
def test_and_nothing_else(value):
    assert not is_possible(TrainConfig.__dataclass_fields__["r1"], value)
