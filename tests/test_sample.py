"""One seed, one image, whatever is drawn beside it and on how many ranks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gan_mpi.config.resolve import new_config
from gan_mpi.drawing import pictures, samples
from gan_mpi.drawing.samples import CHUNK, generate
from gan_mpi.errors import UserError
from gan_mpi.networks.build import build_generator
from gan_mpi.networks.generator import PlainGenerator
from gan_mpi.networks.pixels import to_pixels
from gan_mpi.parallel.batch_norm import BatchNorm
from gan_mpi.runs import checkpoint
from gan_mpi.runs.record import DataRecord
from gan_mpi.streams import Purpose, draw_latents
from gan_mpi.training.progress import Progress


def save(run_dir, step=7, channels=1, seed=0):
    """Write a checkpoint as far as sampling needs it."""
    from dataclasses import asdict

    config = new_config({"latent_dim": 8, "seed": seed})
    shape = (channels, 28, 28)
    progress = asdict(Progress(step=step))
    state = {"version": "0", "config": asdict(config), "progress": progress}
    state["data"] = DataRecord("test", "nowhere", None, None, 10, shape, "0" * 64).to_dict()
    state["G"] = build_generator(config, shape).float().state_dict()
    run_dir.mkdir(parents=True, exist_ok=True)
    return checkpoint.save_checkpoint(run_dir, step, state)


def test_an_image_depends_on_its_seed_alone():
    config = new_config({})
    generator = build_generator(config, (1, 28, 28)).float()
    many = generate(generator, config, range(200))
    assert len(np.unique(many.reshape(200, -1), axis=0)) == 200
    for seeds in ([5], [5, 5, 150], [199, CHUNK, CHUNK - 1, 0], range(60, 70)):
        assert np.array_equal(generate(generator, config, seeds), many[list(seeds)])
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert np.array_equal(generate(generator, config, [3]), many[3:4])
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)


def test_a_generator_with_batch_norm_draws_from_its_running_statistics():
    torch.manual_seed(0)
    layers = nn.Linear(4, 9), BatchNorm(9), nn.Tanh(), nn.Unflatten(1, (1, 3, 3))
    generator = PlainGenerator(*layers)
    threads, seen = torch.get_num_threads(), []
    generator.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    config = new_config({"latent_dim": 4})
    images = generate(generator, config, [1, 2])
    expected = generator.eval()(latents_of([1, 2], 4)).detach()
    generator.train()
    assert np.array_equal(images, to_pixels(expected, "signed"))
    assert generate(generator, config, [0]).shape == (1, 1, 3, 3) and generator.training
    assert (seen[0], torch.get_num_threads()) == (1, threads)


def test_a_generator_that_diverged_is_said_once(gan_mpi, tmp_path):
    path = save(tmp_path / "run")
    state = checkpoint.read_checkpoint(path)
    del state["format"]
    next(iter(state["G"].values())).fill_(float("nan"))
    checkpoint.save_checkpoint(tmp_path / "run", 7, state)
    result = gan_mpi("sample", "run", "--seeds", "0-200", size=2)
    assert result.returncode == 76
    assert result.stderr.count("diverged: what the generator draws") == 1
    assert "ends the job" not in result.stderr
    assert not (tmp_path / "samples.png").exists()


def latents_of(seeds, dimension):
    drawn = draw_latents("uniform", 0, Purpose.SAMPLES, 0, max(seeds) + 1, dimension)
    return torch.from_numpy(drawn[seeds]).float()


def content(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_files_are_the_same_on_any_number_of_ranks(mpirun, tmp_path):
    seeds = [0, 1, 2, 70, 200, 201]
    for channels in (1, 3):
        save(tmp_path / f"run{channels}", channels=channels)
    calls = []
    for size in (1, 3):
        draws = [
            [f"run{channels}", None, seeds, None, kind, f"on{size}/{channels}/{name}"]
            for kind, name in (("png", "a.png"), ("npz", "a.npz"), ("pngs", "a"))
            for channels in (1, 3)
        ]
        calls.append(["sample_on", size, draws, str(tmp_path)])
    assert mpirun(3, "several", calls)[0] == [[0] * 6] * 2
    assert content(tmp_path / "on1") == content(tmp_path / "on3")
    for channels, shape in ((1, (6, 28, 28)), (3, (6, 28, 28, 3))):
        folder = tmp_path / "on3" / str(channels)
        names = {"a.png", "a.npz", *(f"a/seed{seed:06d}.png" for seed in seeds)}
        assert set(content(folder)) == names
        with np.load(folder / "a.npz") as arrays:
            array = arrays["images"]
        assert (array.dtype, array.shape) == (np.uint8, shape)
        assert np.array_equal(pixels(folder / "a" / "seed000070.png"), array[3])
        assert pixels(folder / "a.png").shape[:2] == (2 * 58 + 2, 3 * 58 + 2)


def test_the_grid_of_the_run_is_what_sample_draws(mpirun, gan_mpi, tmp_path):
    given = {"glyphs": 50, "batch": 32, "steps": 2}
    older = ["runs/00000-basic-glyphs-b32", 0, None, None, "png", "older.png"]
    calls = [["train_outcomes", [given], str(tmp_path)]]
    mpirun(2, "several", [*calls, ["sample_outcomes", [older], str(tmp_path)]])
    result = gan_mpi("sample")
    run_dir = tmp_path / "runs" / "00000-basic-glyphs-b32"
    assert "samples.png: 36 image(s) from runs/00000-basic-glyphs-b32" in result.stdout
    drawn = (tmp_path / "samples.png").read_bytes()
    assert drawn == (run_dir / "fakes-000002.png").read_bytes()
    older_bytes = (tmp_path / "older.png").read_bytes()
    assert older_bytes == (run_dir / "fakes-000000.png").read_bytes()


def test_what_cannot_be_drawn_is_named(mpirun, gan_mpi, tmp_path):
    path = save(tmp_path / "run")
    (tmp_path / "cut.pt").write_bytes(path.read_bytes()[:500])
    (tmp_path / "pickle.pt").write_bytes(checkpoint.pack({"G": torch.nn.Linear(1, 1)}))
    rest = [[0], None, "png", None]
    draws = [
        [None, None, *rest],
        ["absent", None, *rest],
        ["cut.pt", None, *rest],
        ["pickle.pt", None, *rest],
        ["run", 8, *rest],
        ["run", None, [0], None, "png", "cut.pt/x.png"],
    ]
    answers = mpirun(2, "sample_outcomes", draws, str(tmp_path))
    assert answers[0] == answers[1]
    expected = [
        ("there is no run with a checkpoint in 'runs'", 1),
        ("there is no run or checkpoint 'absent'", 2),
        ("cut.pt is damaged", 1),
        ("pickle.pt is no checkpoint: it holds more than tensors", 1),
        ("run holds no step 8, but 7.", 2),
        ("--out: cannot make cut.pt", 1),
    ]
    for (message, code, on_all_ranks), (said, expected_code) in zip(
        answers[0], expected, strict=True
    ):
        assert said in message
        assert (code, on_all_ranks) == (expected_code, True)
    result = gan_mpi("sample", "cut.pt")
    assert (result.returncode, result.stderr.count("Error: cut.pt is damaged")) == (
        1,
        1,
    )
    assert not (tmp_path / "samples.png").exists()


def test_a_grid_may_have_empty_cells(mpirun, tmp_path):
    save(tmp_path / "run")
    draws = [["run", None, [0, 1], [2, 2], "png", "grid.png"]]
    mpirun(1, "sample_outcomes", draws, str(tmp_path))
    picture = pixels(tmp_path / "grid.png")
    assert (picture[picture.shape[0] // 2 + 1 :] == pictures.GAP_GREY).all()


@pytest.mark.parametrize(
    ("names", "asked", "labels"),
    [
        ([str(n) for n in range(1, 11)], "1-3", [0, 1, 2]),
        ([str(n) for n in range(1, 11)], "10", [9]),
        (["cat", "dog", "emu"], "0-1", [0, 1]),
        ([], "2", [2]),
        (["7", "2", "10"], "2-7", [1, 0]),
    ],
)
def test_a_number_is_a_name_where_names_are_numbers(names, asked, labels):
    data = SimpleNamespace(class_names=names, classes=len(names) or 3)
    assert samples._labels_of(SimpleNamespace(data=data, path="run"), asked) == labels


@pytest.mark.parametrize("asked", ["0", "11", "3-1", "0-99999999999999999999", "9" * 5000])
def test_no_other_number_is_a_class(asked):
    data = SimpleNamespace(class_names=[str(n) for n in range(1, 11)], classes=10)
    with pytest.raises(UserError, match="run knows the classes 1, 2, 3"):
        samples._labels_of(SimpleNamespace(data=data, path="run"), asked)
