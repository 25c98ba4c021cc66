"""What a step can do besides: known values of each part by itself."""

import numpy as np
import pytest
import torch
from torch import nn

from gan_mpi.config.resolve import new_config
from gan_mpi.config.values import interval
from gan_mpi.errors import UserError
from gan_mpi.evaluation.classes import agreement
from gan_mpi.evaluation.classes import places as class_places
from gan_mpi.extras.clipping import Clipping
from gan_mpi.extras.ema import GeneratorEMA
from gan_mpi.extras.noise import InstanceNoise
from gan_mpi.extras.penalties import GradientPenalty, SlopePenalty
from gan_mpi.extras.replay import Replay
from gan_mpi.extras.targets import Targets
from gan_mpi.game.batch import Batch
from gan_mpi.mpi.world import world
from gan_mpi.networks.build import build_discriminator, build_generator
from gan_mpi.networks.variations import Dropout, InstanceNorm, SpectralNorm
from gan_mpi.streams import draw_labels, draw_latents

SHAPE = (1, 4, 4)


def batch(kind="real", count=4, first=0, value=0.0, extra=None):
    """Return samples of one value, with what an extra draws for them."""
    arrays = {} if extra is None else extra.draw(kind, first, first + count)
    drawn = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Batch(kind, torch.full((count, *SHAPE), value).double(), first, drawn=drawn)


class Linear(nn.Module):
    """D(x) = slope * sum of x, whose gradient has the length slope * 4 on 4x4 pixels."""

    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope).double())

    def forward(self, samples):
        return self.slope * samples.values.flatten(1).sum(1, keepdim=True)


def test_penalties_are_those_of_the_slope():
    D = Linear(0.5)  # |gradient| = 2
    config = new_config({"r1": 3.0, "r2": 5.0, "gradient_penalty": 10.0})
    r1, r2 = SlopePenalty("r1", "real", config), SlopePenalty("r2", "fake", config)
    assert r1(D, batch(), batch()).item() == pytest.approx(4 * 3 / 2 * 2**2)
    assert r2(D, None, batch("fake", 6)).item() == pytest.approx(6 * 5 / 2 * 2**2)
    of_mixtures = GradientPenalty(config)
    penalty = of_mixtures(D, batch(extra=of_mixtures), batch("fake", value=1.0))
    assert penalty.item() == pytest.approx(4 * 10 * (2 - 1) ** 2)
    penalty.backward()
    # d/ds of 4 * 10 * (4 s - 1)^2
    assert D.slope.grad.item() == pytest.approx(4 * 10 * 2 * (4 * 0.5 - 1) * 4)
    assert r1(D, None, batch("fake")) is None and r2(D, batch(), None) is None


def test_penalties_that_are_left_out_count_more():
    config = new_config({"r1": 3.0, "gradient_penalty": 10.0, "penalty_every": 8})
    r1, of_mixtures = SlopePenalty("r1", "real", config), GradientPenalty(config)
    D, real = Linear(0.5), batch(extra=of_mixtures)
    assert r1(D, real, None).item() == pytest.approx(8 * 4 * 3 / 2 * 2**2)
    penalty = of_mixtures(D, real, batch("fake", value=1.0))
    assert penalty.item() == pytest.approx(8 * 4 * 10 * (2 - 1) ** 2)


def test_a_weight_that_changes_is_that_of_each_sample():
    config = new_config({"r2": "8:2", "steps": 100, "batch": 10, "d_steps": 1})
    r2, D = SlopePenalty("r2", "fake", config), Linear(0.5)
    assert config.latents_per_step == 20  # of D, and of G
    for first, weight in ((0, 8.0), (1000, 5.0), (500, 7.1213203), (2000, 2.0), (9000, 2.0)):
        fakes = batch("fake", 1, first, extra=r2)
        assert r2(D, None, fakes).item() == pytest.approx(weight / 2 * 2**2)
    assert r2(D, None, batch("fake", 2, 1999, extra=r2)).item() == pytest.approx(2 * 4, rel=1e-5)


def test_penalties_of_a_flat_discriminator_are_finite():
    D = Linear(0.0)
    of_mixtures = GradientPenalty(new_config({"gradient_penalty": 1.0}))
    penalty = of_mixtures(D, batch(extra=of_mixtures), batch("fake"))
    penalty.backward()
    assert penalty.item() == pytest.approx(4, 1e-5) and torch.isfinite(D.slope.grad)


def test_targets_are_drawn_from_their_ranges_and_some_are_flipped():
    config = new_config({"real_targets": "0.7-1.2", "fake_targets": "0.1", "flip": 0.1})
    targets = Targets(config)
    real = targets(batch(count=20_000, extra=targets)).numpy()
    straight = real[real > 0.65]
    assert 0.7 <= straight.min() < 0.71 and 1.19 < straight.max() <= 1.2
    assert (real < 0.65).mean() == pytest.approx(0.1, abs=0.01)
    fake = targets(batch("fake", count=20_000, extra=targets)).numpy()
    assert set(fake.round(6)) == {0.1, 0.9}
    assert (fake > 0.5).mean() == pytest.approx(0.1, abs=0.01)
    later = targets(batch(count=10, first=100, extra=targets)).numpy()
    assert np.array_equal(later, real[100:110])


def test_noise_falls_to_zero_at_the_end_of_the_run():
    config = new_config({"instance_noise": 0.5, "steps": 100, "batch": 10, "d_steps": 1})
    noise = InstanceNoise(config, SHAPE)
    for first, deviation in ((0, 0.5), (500, 0.25), (999, 0.0005), (2000, 0.0)):
        one = noise(batch(count=1, first=first, extra=noise)).numpy()
        assert np.abs(one).mean() == pytest.approx(deviation * 0.8, rel=0.4)
    assert noise(batch(count=1000, extra=noise)).std().item() == pytest.approx(0.29, rel=0.03)
    assert not torch.equal(noise(batch(extra=noise)), noise(batch("fake", extra=noise)))


def test_replay_shows_old_fakes_one_half_of_the_time():
    replay = Replay(world(), new_config({"batch": 1000, "replay": 3}))
    for n in range(3):
        given = batch("fake", 1000, 1000 * n, n, replay)
        assert replay.exchange(given).values.unique() == n
        replay.commit()
    shown = replay.exchange(batch("fake", 1000, 3000, 3.0, replay)).values[:, 0, 0, 0]
    assert (replay.images != 3).all(), "what an update has yet to decide on"
    replay.commit()
    counts = [(shown == n).sum().item() for n in range(4)]
    assert counts[3] == pytest.approx(500, abs=60)
    assert all(count == pytest.approx(167, abs=50) for count in counts[:3])
    assert (replay.images[:, :, 0, 0, 0] == 3).sum().item() == 1000 - counts[3]


def test_the_average_is_exponential_with_its_half_life():
    network = nn.Linear(1, 1, bias=False)
    average = GeneratorEMA(network, kimg=0.1, batch=50)  # the half-life is 2 updates
    with torch.no_grad():
        network.weight.fill_(0.0)
    average.restart()
    average.updates = 10_000  # long after the start, when it is shorter
    with torch.no_grad():
        network.weight.fill_(1.0)
    seen = []
    for _ in range(4):
        average.update()
        seen.append(average.network.weight.item())
    assert seen == pytest.approx([1 - 0.5 ** (n / 2) for n in range(1, 5)], abs=1e-6)
    average.restart()
    average.update()
    assert average.network.weight.item() == 1.0


def test_a_half_life_that_changes_has_no_other_bound():
    average = GeneratorEMA(nn.Linear(1, 1), "0:0.1", batch=50, ramp=8)
    weights = [average._next_weight() for _ in range(9)]
    assert weights[7] == weights[8] == pytest.approx(1 - 0.5 ** (1 / 2))
    assert weights[3] == pytest.approx(1 - 0.5 ** (1 / 1)), "half of the way"
    assert GeneratorEMA(nn.Linear(1, 1), "0:0.1", 50, 8).network.weight is not None
    late = GeneratorEMA(nn.Linear(1, 1), "0.1:0", batch=50, ramp=1)
    assert late._next_weight() == 1.0, "there is no average any more"


def test_clipping_bounds_every_weight():
    network = nn.Linear(100, 100)
    Clipping(network, 0.01)()
    assert max(p.abs().max().item() for p in network.parameters()) <= 0.01


def test_a_spectral_norm_is_one_after_vectors_of_sites_were_averaged():
    D = build_discriminator(new_config({"d_norm": "spectral"}), (1, 28, 28)).eval()
    norms = [m for m in D.modules() if isinstance(m, SpectralNorm)]
    layers = [m for m in D.modules() if isinstance(m, nn.Linear)]
    before = [layer.weight.detach().clone() for layer in layers]
    for norm in norms:
        norm.u *= 0.8
    for layer, weight in zip(layers, before, strict=True):
        assert torch.allclose(layer.weight, weight, rtol=1e-12)


def test_a_spectral_norm_is_one():
    D = build_discriminator(new_config({"d_norm": "spectral"}), (1, 28, 28))
    images = torch.randn(3, 1, 28, 28).double()
    for _ in range(30):
        D(images)
    for layer in (D[1], D[3]):
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, 1e-3)
        assert isinstance(layer.parametrizations.weight[0], SpectralNorm)


def test_instance_norm_looks_at_one_sample():
    layer = InstanceNorm(3, eps=0.0)
    maps, features = torch.randn(5, 3, 8, 8) * 7 + 2, torch.randn(5, 3)
    assert layer(maps).mean((2, 3)).abs().max() < 1e-5
    assert torch.allclose(layer(maps)[:1], layer(maps[:1]))
    assert layer(features).mean(1).abs().max() < 1e-5


def test_dropout_drops_its_share_and_keeps_the_mean():
    layer = Dropout(0.25, units=1000)
    made = layer(torch.ones(8, 1000, 2, 2), torch.rand(8, 1000))
    assert made.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (made == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(made[:, :, 0, 0], made[:, :, 1, 1])


def test_labels_are_as_frequent_as_in_the_data():
    labels = draw_labels([100, 0, 300], 0, 9, 0, 40_000)
    shares = np.bincount(labels, minlength=3) / 40_000
    assert shares == pytest.approx([0.25, 0, 0.75], abs=0.01)


def test_spherical_latents_have_one_length():
    drawn = draw_latents("sphere", 0, 2, 0, 50, 9)
    assert np.linalg.norm(drawn, axis=1) == pytest.approx(3.0)


@pytest.mark.parametrize("way", ["projection", "auxiliary"])
@pytest.mark.parametrize("network", ["dense", "dcgan", "dcgan-206b", "paddle", "lightning"])
def test_every_network_of_images_takes_labels(network, way):
    config = new_config({"network": network, "conditional": way})
    G = build_generator(config, (1, 28, 28), [5, 5, 5])
    D = build_discriminator(config, (1, 28, 28), 3)
    latents, labels = torch.randn(4, 100).double(), torch.tensor([0, 1, 2, 2])
    images = G(latents, labels)
    assert images.shape == (4, 1, 28, 28)
    assert D(images, labels).shape == (4, 1 if way == "projection" else 4)
    other = torch.tensor([0, 1, 2, 0])
    assert not torch.equal(G(latents, other)[3], images[3])
    if way == "projection":
        assert (D(images, other) != D(images, labels)).flatten().tolist()[-1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"loss": "hinge", "flip": 0.1}, "'--flip': --loss hinge has no targets"),
        ({"loss": "wasserstein"}, "'--loss': wasserstein needs a D of bounded slope"),
        ({"clip": 0.1}, "'--clip': it bounds the slope of D for --loss wasserstein"),
        ({"gradient_penalty": 1.0, "d_update": "separate"}, "give --d-update joint"),
    ],
)
def test_what_means_nothing_is_refused(given, said):
    with pytest.raises(UserError) as error:
        new_config(given)
    assert said in str(error.value) and error.value.exit_code == 2


def test_a_norm_that_is_not_there_cannot_be_replaced():
    with pytest.raises(UserError, match="has no batch norm to replace"):
        build_generator(new_config({"g_norm": "instance"}), (1, 28, 28))


def test_ranges_of_targets():
    assert interval("1") == (1.0, 1.0) and interval("0.7-1.2") == (0.7, 1.2)
    assert interval("9e-1") == (0.9, 0.9)
    for wrong in ("", "x", "1-0", "-0.1", "0-3", "0-"):
        with pytest.raises(ValueError, match="neither a number"):
            interval(wrong)


@pytest.mark.parametrize(
    ("asked", "judged", "counts", "found"),
    [
        ("abc", "cab", (1, 1, 1), [1, 2, 0]),
        ("abc", "cxa", (1, 0, 1), [2, -1, 0]),
        ("abc", "cxa", (1, 1, 1), None),
        ("abc", "", (1, 1, 1), [0, 1, 2]),
        ("", "", (4, 5, 6), [0, 1, 2]),
        ("", "", (4, 5, 6, 7), None),
        ("", "", (4, 5, 6, 0), [0, 1, 2, -1]),
        ("", "abc", (4, 5), [0, 1]),
    ],
)
def test_classes_are_found_by_name_or_number_where_they_are_drawn(asked, judged, counts, found):
    places = class_places(counts, tuple(asked), tuple(judged), 3)
    assert (None if places is None else places.tolist()) == found


def test_agreement_is_by_class():
    probabilities = np.eye(3)[[0, 0, 1, 2, 2]]
    labels = np.array([0, 1, 1, 2, 2])
    assert agreement(probabilities, labels) == [1.0, 0.5, 1.0]
    assert agreement(probabilities, np.array([1, 1, 1, 2, 2])) == [None, pytest.approx(1 / 3), 1.0]
