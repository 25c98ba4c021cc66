"""Augmentation of what D sees: each change by itself, by numbers that belong to the sample."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gan_mpi.config.resolve import new_config
from gan_mpi.config.values import augmentations
from gan_mpi.errors import UserError
from gan_mpi.extras.augment import KINDS, Adaptation, Augmentation
from gan_mpi.extras.penalties import slopes
from gan_mpi.game.batch import Batch
from gan_mpi.training.state import RunState
from gan_mpi.training.turn import Turn

IMAGES = torch.rand(4, 3, 8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def changed(kind, images, *numbers, applied=True):
    """Return images that are all changed by the same numbers in 0..1."""
    count, apply = KINDS[kind]
    drawn = torch.tensor(numbers).double().expand(len(images), count)
    return apply(images, torch.full((len(images),), applied), drawn)


def augmented(images, first=0, kind="real", **given):
    """Return images, the first of their stream and on, as D sees them."""
    augmentation = Augmentation(new_config({"augment": "color,translation,cutout", **given}))
    arrays = augmentation.draw(kind, first, first + len(images))
    drawn = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return augmentation(Batch(kind, images, first, drawn=drawn))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_applied_changes_nothing(kind):
    numbers = [0.9] * KINDS[kind][0]
    assert torch.allclose(changed(kind, IMAGES, *numbers, applied=False), IMAGES, atol=1e-15)
    assert not torch.allclose(changed(kind, IMAGES, *numbers), IMAGES, atol=0.01)
    one_channel = changed(kind, IMAGES[:, :1], *numbers)
    assert one_channel.shape == (4, 1, 8, 8)
    assert changed(kind, IMAGES[:0], *numbers).shape == (0, 3, 8, 8)


def test_colors_are_those_of_the_paper():
    brighter = changed("color", IMAGES, 1.0, 0.5, 0.5)
    assert torch.allclose(brighter, IMAGES + 0.5)
    grey = changed("color", IMAGES, 0.5, 0.0, 0.5)
    assert torch.allclose(grey, IMAGES.mean(1, keepdim=True).expand_as(IMAGES))
    vivid = changed("color", IMAGES, 0.5, 1.0, 0.5)
    assert torch.allclose(vivid - IMAGES.mean(1, keepdim=True), 2 * (IMAGES - grey))
    flat = changed("color", IMAGES, 0.5, 0.5, 0.0)
    mean = IMAGES.mean((1, 2, 3), keepdim=True)
    assert torch.allclose(flat - mean, 0.5 * (IMAGES - mean))


def test_images_move_by_an_eighth_at_most_and_leave_zeros():
    down = changed("translation", IMAGES, 0.99, 0.5)
    assert torch.equal(down[:, :, 1:], IMAGES[:, :, :-1]) and (down[:, :, 0] == 0).all()
    left = changed("translation", IMAGES, 0.5, 0.0)
    assert torch.equal(left[..., :-1], IMAGES[..., 1:]) and (left[..., -1] == 0).all()
    large = torch.rand(1, 1, 28, 28).double()
    moved = changed("translation", large, 0.0, 0.5)
    assert torch.equal(moved[:, :, :-4], large[:, :, 4:]), "3.5 pixels, rounded"


def test_half_of_the_sides_is_cut_out():
    middle = changed("cutout", torch.ones(1, 1, 8, 8).double(), 0.5, 0.5)
    assert (middle[0, 0, 2:6, 2:6] == 0).all() and middle.sum() == 64 - 16
    corner = changed("cutout", torch.ones(1, 1, 8, 8).double(), 0.0, 0.99)
    assert corner.sum() == 64 - 2 * 2, "the rest of it is beyond the image"


def test_numbers_belong_to_samples():
    many = IMAGES[:1].expand(50, 3, 8, 8)
    whole = augmented(many, first=100)
    assert torch.equal(augmented(many[:20], first=120), whole[20:40])
    assert not torch.equal(augmented(many, 100, "fake"), whole)
    assert not torch.equal(augmented(many, 100, seed=1), whole)
    assert len(torch.unique(whole.flatten(1), dim=0)) == 50


def test_each_kind_is_applied_so_often():
    ones = torch.ones(4000, 1, 4, 4).double()
    for probability, expected in ((0.0, 0.0), (0.25, 0.25), ("0:1", 0.5)):
        given = {"augment_probability": probability, "steps": 100, "batch": 40, "d_steps": 1}
        seen = augmented(ones, first=0, augment="cutout", **given)
        share = (seen != 1).any((1, 2, 3)).double()
        assert share.mean().item() == pytest.approx(expected, abs=0.03)
        if isinstance(probability, str):
            parts = share.view(4, 1000).mean(1).numpy()
            places = (np.arange(4) + 0.5) / 4
            assert parts == pytest.approx(0.5 - 0.5 * np.cos(np.pi * places), abs=0.05)


def test_slopes_are_those_at_the_image_before_it_is_changed():
    """A sum of all pixels has a slope of 1 at each but for those that D does not see."""
    augmentation = Augmentation(new_config({"augment": "cutout"}))
    arrays = augmentation.draw("real", 0, 4)
    batch = Batch("real", IMAGES, 0, drawn={n: torch.from_numpy(a) for n, a in arrays.items()})
    seen = augmentation(Batch("real", torch.ones_like(IMAGES), 0, drawn=batch.drawn))
    found = slopes(lambda samples: augmentation(samples).flatten(1).sum(1, keepdim=True), batch)
    assert torch.equal(found, seen.sum((1, 2, 3))) and found.min() < 3 * 64


def test_all_can_be_differentiated_twice():
    images = IMAGES[:2].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: augmented(x).square(), images)


def test_a_probability_follows_how_sure_d_is():
    """D takes (1 - sign) / 2 of the reals for fakes; the sign that it should have is 0.6."""
    adaptation = Adaptation(batch=50_000)  # a tenth of the way in an update
    for count, error, expected in ((4, 0.1, 0.4), (4, 0.3, 0.0), (4, 0.3, 0.0), (12, 0.1, 1.0)):
        for _ in range(count):
            adaptation.note(error)
            updates = adaptation.updates + adaptation.count
            if adaptation.is_due(updates):
                adaptation.adapt(updates)
        assert adaptation.probability == pytest.approx(expected)
    fresh = Adaptation(batch=50_000)
    fresh.load(adaptation.to_dict())
    assert vars(fresh) == vars(adaptation)


def test_kinds_are_words_in_any_order():
    assert augmentations("cutout, color") == ["color", "cutout"] and augmentations("no") == []
    assert augmentations("adaptive") == ["color", "translation", "cutout"]
    assert augmentations("adaptive,cutout") == ["cutout"]
    with pytest.raises(ValueError, match="'blur' is not color, translation, cutout or adaptive"):
        augmentations("cutout,blur")
    with pytest.raises(UserError, match="'--augment-probability': nothing is augmented"):
        new_config({"augment_probability": 0.5})


def test_a_turn_that_is_recorded_adapts_by_the_updates_before_it(monkeypatch):
    """What a graph leaves to the host is done after the turn has been played and counted."""
    config, asides = new_config({"augment": "adaptive"}), []
    adaptation = SimpleNamespace(is_due=asides.append, show=lambda: None)
    player = SimpleNamespace(set_rates=lambda *rates: None)
    state = RunState(config, None, SimpleNamespace(G=player, D=player), adaptation=adaptation)
    monkeypatch.setattr(state.host, "each_time", asides.append)
    state.progress.updates_D = 6
    Turn(None, state, None, None).begin()
    state.progress.updates_D = 8
    asides.pop()()
    assert asides == [6]


@pytest.mark.parametrize("kinds", ["color,translation,cutout", "cutout,adaptive"])
def test_a_run_shows_what_d_saw(gan_mpi, tmp_path, kinds):
    run = tmp_path / "run"
    options = ("--glyphs", 60, "--steps", 2, "--batch", 30, "--augment", kinds)
    done = gan_mpi("train", *options, "--run-dir", run)
    assert done.returncode == 0, done.stderr
    reals, seen = (np.asarray(Image.open(run / f"{n}.png")) for n in ("reals", "augmented"))
    assert reals.shape == seen.shape
    assert (reals == seen).all() == ("adaptive" in kinds), "it begins with none"
    assert gan_mpi("report", run).returncode == 0
    assert "real, as the discriminator sees them" in (tmp_path / "report.html").read_text()
    (record,) = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()][-1:]
    assert record.get("augmentation") == (0.0 if "adaptive" in kinds else None)
