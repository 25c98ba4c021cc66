"""An exported generator draws the same images in programs that know nothing of gan-mpi."""

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from conftest import MAIN

from gan_mpi.config.resolve import new_config
from gan_mpi.drawing.generator import read_generator
from gan_mpi.networks.build import build_generator
from gan_mpi.parallel.batch_norm import batch_norms
from gan_mpi.programs.export import EXPORT_FORMATS
from gan_mpi.runs import checkpoint
from gan_mpi.runs.record import DataRecord
from gan_mpi.streams import Purpose, draw_latents
from gan_mpi.training.progress import Progress

OTHERS = {
    "safetensors": "from safetensors.numpy import load_file; samples = "
    "load_file({file!r})['0.weight']",
    "onnx": "import onnxruntime; session = onnxruntime.InferenceSession({file!r}); "
    "(samples,) = session.run(None, {{'latents': latents}})",
    "pt2": "import torch; generator = torch.export.load({file!r}).module(); "
    "samples = generator(torch.from_numpy(latents)).detach().numpy()",
}


def state_of(preset, shape, precision="fp32"):
    """Return what a checkpoint holds of a generator that has seen something."""
    config = new_config({"preset": preset, "precision": precision})
    generator = build_generator(config, shape)
    for number, layer in enumerate(batch_norms(generator)):
        layer.running_mean.uniform_(-0.1, 0.1, generator=torch.manual_seed(number))
        layer.running_var.uniform_(0.5, 2.0, generator=torch.manual_seed(number))
    data = DataRecord("test", "nowhere", None, None, 10, shape, "0" * 64)
    progress = asdict(Progress(step=7))
    about = {"version": "0", "config": asdict(config), "progress": progress}
    return {**about, "data": data.to_dict(), "G": generator.state_dict()}


def first_latents(preset, count):
    config = new_config({"preset": preset})
    drawn = draw_latents(config.latents, 0, Purpose.SAMPLES, 0, count, config.latent_dim)
    return drawn.astype(np.float32)


def save(run_dir, state):
    run_dir.mkdir(parents=True)
    checkpoint.save_checkpoint(run_dir, 7, state)


@pytest.mark.parametrize(
    ("name", "preset", "shape"),
    [
        *(
            pytest.param(name, "dcgan", (1, 28, 28), marks=pytest.mark.slow)
            for name in EXPORT_FORMATS
        ),
        ("safetensors", "basic", (1, 28, 28)),
        ("onnx", "basic", (1, 28, 28)),
        pytest.param("pt2", "paddle-uniform", (2,), marks=pytest.mark.slow),
    ],
)
def test_another_program_draws_the_same(gan_mpi, tmp_path, name, preset, shape):
    state = state_of(preset, shape)
    save(tmp_path / "run", state)
    result = gan_mpi("export", "run", "--format", name, "--out", f"file.{name}")
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert f"file.{name}: the generator of run/checkpoint-000007.pt; 64 images" in result.stdout
    latents = first_latents(preset, 64)
    np.save(tmp_path / "latents.npy", latents)
    program = (
        "import sys, numpy; latents = numpy.load('latents.npy'); "
        + OTHERS[name].format(file=f"file.{name}")
        + "; assert 'gan_mpi' not in sys.modules; numpy.save('samples.npy', samples)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    samples = np.load(tmp_path / "samples.npy")
    generator = read_generator(None, state, True).build().eval()
    with torch.no_grad():
        expected = generator(torch.from_numpy(latents)).numpy()
    if name == "safetensors":
        expected = state["G"]["0.weight"].float().numpy()
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() < 1e-4


@pytest.mark.slow
def test_a_file_says_what_it_takes_and_draws(gan_mpi, tmp_path):
    save(tmp_path / "run", state_of("lightning", (1, 28, 28), "fp64"))
    assert gan_mpi("export", "run", size=2).returncode == 0
    data = (tmp_path / "generator.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + size])["__metadata__"]
    assert about["latents"] == "normal, (N, 100)"
    assert about["samples"] == "(N, 1, 28, 28)"
    assert about["range"] == "-1 (black) to 1 (white)"
    assert (about["preset"], about["step"]) == ("lightning", "7")


@pytest.mark.slow
def test_a_generator_that_draws_otherwise_is_not_written(gan_mpi, tmp_path):
    save(tmp_path / "run", state_of("basic", (1, 28, 28)))
    code = (
        "from dataclasses import replace; from unittest.mock import patch\n"
        "from gan_mpi.programs import export\n"
        "sound = export.EXPORT_FORMATS['pt2']\n"
        "wrong = lambda data: lambda latents: sound.load(data)(latents) + 1e-3\n"
        f"with patch.dict(export.EXPORT_FORMATS, pt2=replace(sound, load=wrong)): {MAIN}"
    )
    result = gan_mpi("export", "run", "--format", "pt2", code=code)
    assert result.returncode == 1
    assert "differs from that of run/checkpoint-000007.pt by 0.001, over 0.0001" in result.stderr
    assert not (tmp_path / "generator.pt2").exists()


def test_a_missing_package_is_named(gan_mpi, tmp_path):
    save(tmp_path / "run", state_of("basic", (1, 28, 28)))
    code = (
        "import sys; from unittest.mock import patch\n"
        f"with patch.dict(sys.modules, onnx=None): {MAIN}"
    )
    result = gan_mpi("export", "run", "--format", "onnx", code=code)
    assert result.returncode == 1
    assert "this format needs the package onnx; install 'gan-mpi[export]'" in result.stderr
