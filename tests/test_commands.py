"""The command line without any training: help, options, configuration."""

import gc
import json
import os
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import environment

from gan_mpi import __version__
from gan_mpi.cli import cli
from gan_mpi.config.describe import config_lines
from gan_mpi.config.optimizer import OPTIMIZERS, OptimizerConfig
from gan_mpi.config.resolve import config_from_dict, new_config, resumed_config, run_config
from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import TrainConfig
from gan_mpi.errors import UserError
from gan_mpi.options.begin import importing

TOP = Path(__file__).parents[1]
README = "".join(path.read_text() for path in (TOP / "README.md", *(TOP / "docs").glob("*.md")))
HELPED = [(), *((name,) for name in cli.commands)]


def run(*arguments):
    return CliRunner().invoke(cli, [*arguments])


@pytest.mark.launch
@pytest.mark.parametrize("command", HELPED)
def test_help_is_quick_and_loads_neither_torch_nor_mpi(command):
    code = (
        "import sys, gan_mpi.__main__ as m\n"
        "try: m.main()\n"
        "finally: print('LOADED', 'torch' in sys.modules, 'mpi4py.MPI' in sys.modules)"
    )
    seconds = []
    for _ in range(3):  # another program may slow down one of them
        begin = time.perf_counter()
        result = subprocess.run(
            [sys.executable, "-c", code, *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds.append(time.perf_counter() - begin)
        assert "Usage: gan-mpi" in result.stdout
        assert "LOADED False False" in result.stdout
        if seconds[-1] < 0.5:
            return
    pytest.fail(f"{seconds} s")


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_and_option_is_explained_and_in_the_readme(name):
    command = cli.commands[name]
    assert command.help and f"gan-mpi {name}" in README
    for parameter in command.params:
        assert parameter.param_type_name == "argument" or parameter.help, parameter.name


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    """What one process says of torch's compiler after a training with each optimizer."""
    small = ("--glyphs", "20", "--batch", "4", "--steps", "1", "--latent-dim", "2")
    code = (
        "import sys; from gan_mpi.cli import cli; from gan_mpi.recording import gallery\n"
        "gallery.draw_losses = lambda *_: b''\n"
        f"for optimizer in {[*OPTIMIZERS]}:\n"
        f"    cli.main(['train', *{small}, '--optimizer', optimizer], standalone_mode=False)\n"
        "    print(optimizer, 'LOADED', 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path_factory.mktemp("compiler"),
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.launch
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_does_not_import_torchs_compiler(compiler, optimizer):
    assert f"\n{optimizer} LOADED False\n" in compiler


def test_the_collector_looks_again_after_an_import_even_one_that_fails():
    with pytest.raises(ImportError), importing():
        assert not gc.isenabled()
        import gan_mpi.absent  # noqa: F401
    assert gc.isenabled()


def test_version():
    assert run("--version").output == f"gan-mpi, version {__version__}\n"


def test_the_options_of_train_are_the_fields_of_the_configurations():
    shared = {field.name for field in fields(OptimizerConfig)}
    expected = {field.name for field in (*fields(RunConfig), *fields(TrainConfig))} - {
        "G",
        "D",
    }
    expected |= shared | {f"{player}_{name}" for player in "gd" for name in shared}
    options = {p.name for p in cli.commands["train"].params}
    assert options - {"dry_run", "fast", "kimg"} == expected


def test_a_transfer_from_an_empty_variable_is_none_of_a_new_run(gan_mpi):
    result = gan_mpi("train", "--glyphs", "20", "--transfer", "", "--dry-run")
    assert (result.returncode, result.stdout) == (1, "")
    assert "holds no checkpoint" in result.stderr


def test_dry_run_prints_the_configuration_and_writes_nothing(gan_mpi, tmp_path):
    result = gan_mpi("train", "-n", "--full", "--g-optimizer", "adam", "--lr", "0.001")
    said, brace, rest = result.stdout.partition("\n{")
    config = json.loads(brace + rest.partition("Dry run")[0])["config"]
    assert said.splitlines() == [
        "data: 10000 images of 1x28x28 from 10000 drawn glyphs",
        "ranks: 1, started without mpiexec",
        f"device: cpu, {len(os.sched_getaffinity(0))} thread(s) a rank",
        f"gan-mpi {__version__}, preset basic, seed 0, fp32",
        "networks: dense, images signed, 100 uniform latents, loss sum",
        "batch 1024: 1024 images in every update; each step trains D, D, G",
        "G: adam, lr 0.001, beta1 0.5, beta2 0.999, epsilon 1e-08, constant",
        "D: fsadagrad, lr 0.001, momentum 0.998572, beta2 0.999999, constant",
        "length: 40000 steps, 81920.0 kimg; status line every 800 steps",
        "checkpoints: every 1000 steps and at the end; of them the last 3 are kept",
        "run directory: a new one in runs, with the number 00000",
    ]
    assert (config["steps"], config["batch"], config["d_steps"]) == (40_000, 1024, 2)
    assert (config["G"]["optimizer"], config["G"]["lr"], config["G"]["beta1"]) == (
        "adam",
        0.001,
        0.5,
    )
    assert (config["D"]["optimizer"], config["D"]["lr"]) == ("fsadagrad", 0.001)
    assert (result.returncode, list(tmp_path.iterdir())) == (0, [])


def test_what_has_no_effect_is_refused_of_a_new_run_alone():
    """The same command goes on with a run that was begun with it, by an earlier version too."""
    given = {"train": "generator", "d_lr": 1.0, "r1": 1.0}
    with pytest.raises(UserError, match="'--d-lr': --train generator trains no discriminator"):
        new_config(given)
    saved = replace(
        new_config({"train": "generator"}),
        r1=1.0,
        D=OptimizerConfig("fsadagrad", lr=1.0, momentum=0.9, beta2=0.99),
    )
    assert resumed_config(saved, given) == saved
    assert new_config({"train": "generator", "loss": "wasserstein"}).clip == 0, "D is another's"


def test_an_own_grid_wins_over_the_presets_which_is_for_pictures_without_classes():
    plain, labelled = (
        new_config({"preset": "lightning", "conditional": kind}) for kind in ("no", "projection")
    )
    assert run_config(plain, {}, {}).grid == "5x2" and run_config(labelled, {}, {}).grid is None
    for config in (plain, labelled):
        assert run_config(config, {"grid": "5x2"}, {}).grid == "5x2"


def test_a_shell_that_completes_a_line_is_told_nothing():
    context = cli.commands["train"].make_context("train", ["small"], resilient_parsing=True)
    assert context.args == ["small"]


def test_what_no_original_had_is_said_as_options():
    assert not [line for line in config_lines(new_config({}), 1) if line.startswith("with")]
    config = new_config({"preset": "small", "d_norm": "spectral", "instance_noise": 0.25})
    said = "with --ema 5 --conditional projection --r1 3 --instance-noise 0.25 --d-norm spectral"
    assert config_lines(config, 1)[-1] == said


def test_the_default_is_the_original():
    config = new_config({})
    assert (config.steps, config.batch, config.d_steps, config.latent_dim) == (
        300,
        1024,
        2,
        100,
    )
    for player in (config.G, config.D):
        assert player.optimizer == "fsadagrad"
        assert player.settings == OPTIMIZERS["fsadagrad"]
        assert player.beta1 is None


def test_an_option_of_one_player_wins_over_the_shared_one_in_any_order():
    for given in ({"lr": 1.0, "g_lr": 2.0}, {"g_lr": 2.0, "lr": 1.0}):
        config = new_config(given)
        assert (config.G.lr, config.D.lr) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--kimg", "1e306"), ("--warmup", "1e306"), ("--d-steps", "10000000000")],
)
def test_what_no_run_could_be_long_enough_for_is_refused(flag, value):
    done = CliRunner().invoke(cli, ["train", "-n", flag, value])
    assert done.exit_code == 2 and f"'{flag}'" in done.output and "range" in done.output


def test_kimg_is_a_length_in_real_images():
    assert new_config({"kimg": 20.48}).steps == 10
    assert new_config({"kimg": 0.5, "batch": 10, "d_steps": 5}).steps == 10
    assert new_config({"kimg": 0.501, "batch": 10, "d_steps": 5}).steps == 11


def test_a_configuration_survives_the_checkpoint():
    from dataclasses import asdict

    config = new_config({"optimizer": "adam", "seed": 3, "d_warmup": 5.0})
    assert config_from_dict(json.loads(json.dumps(asdict(config)))) == config


def test_a_resume_may_change_the_length_and_nothing_else():
    saved = new_config({"batch": 64, "g_optimizer": "adam"})
    assert resumed_config(saved, {}) == saved
    assert resumed_config(saved, {"batch": 64, "g_lr": 2e-4, "steps": 7}).steps == 7
    assert resumed_config(saved, {"fast": False}).steps == 40_000
    with pytest.raises(UserError) as caught:
        resumed_config(saved, {"batch": 32, "seed": 1, "d_optimizer": "sgd", "lr": 0.1})
    assert caught.value.exit_code == 2
    for part in (
        "--batch is 32 now and was 64",
        "--seed is 1",
        "--d-optimizer is sgd",
        "--lr",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seeds", "3-1"), "'3-1' ends before it begins"),
        (("--seeds", "a"), "'a' is not like 0,1,4-6"),
        (("--grid", "6"), "'6' is not like 6x6"),
        (("--seeds", "0-9", "--grid", "3x3"), "10 seeds do not fit into 3x3"),
        (("--checkpoint", "best"), "'best' is neither a step nor 'last'"),
    ],
)
def test_wrong_options_of_sample(arguments, said):
    result = run("sample", *arguments)
    assert said in result.output
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "--out", "a.jpg"], "a.jpg should end in .png or .npz."),
        (["sample", "--out", "a"], "a should end in .png or .npz."),
        (["sample", "--format", "npz", "--out", "a.png"], "should end in .npz with --format npz"),
        (["sample", "--format", "pngs", "--out", "a.png"], "--format pngs fills a folder"),
        (["sample", "--timelapse", "--out", "t.png"], "t.png should end in .gif with --timelapse"),
        (["sample", "--interpolate", "0:1", "--out", "t.jpg"], "end in .gif or .png with --interp"),
        (["export", "--out", "a.pt"], "a.pt should end in .safetensors or .onnx or .pt2."),
        (
            ["export", "--format", "onnx", "--out", "a.pt2"],
            "should end in .onnx with --format onnx",
        ),
        (["report", ".", "--out", "a.pdf"], "a.pdf should end in .html or .htm."),
        (["data", "info", ".", "--grid", "2x2", "--out", "a.gif"], "a.gif should end in .png."),
        (["train-classifier", "--out", "a.pt"], "a.pt should end in .safetensors."),
        (["bench", "--sweep", "--plot", "a.jpg"], "'--plot': a.jpg should end in .png."),
    ],
)
def test_a_file_is_of_the_kind_that_its_name_says(words, said):
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2 and said in done.output
