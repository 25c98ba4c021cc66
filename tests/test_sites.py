"""Sites: data of their own, weights averaged after rounds, and nothing else that crosses."""

import json
import re

import numpy as np
import pytest
import torch
from conftest import write_glyphs
from ranks.training import distance

from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.datasets.npz import bytes_of
from gan_mpi.runs.checkpoint import read_checkpoint
from gan_mpi.training.progress import passed

FP64 = {"precision": "fp64", "latent_dim": 10}
SGD = {**FP64, "batch": 8, "optimizer": "sgd", "lr": 0.05, "steps": 20}
# One update a step: with more, the second player meets the other as its own site trained it.
D_ALONE = {"train": "discriminator", "d_steps": 1}
G_ALONE = {"train": "generator"}
ROUNDS = {"average": "weights", "every": "1"}
BALANCED = {
    "preset": "paddle-mnist",
    "average": "weights",
    "every": "3",
    "batch": 8,
    "d_norm": "spectral",
    "steps": 6,
}
LONG = {"preset": "federated", "every": "1epoch", **FP64, "batch": 8}
BY_SITE = {"datadir": "site-{rank}"}
MANY = {
    **BY_SITE,
    **LONG,
    "conditional": "projection",
    "replay": 2,
    "ema": 0.05,
    "g_dropout": 0.2,
    "instance_noise": 0.1,
    "steps": 26,
    "every": "2epoch",
}
BLOCKS = {
    **BY_SITE,
    **FP64,
    "batch": 6,
    "steps": 12,
    "every": "3",
    "average": "weights",
}
BLOCKS |= {"block_momentum": "0.5", "optimizer_state": "local"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two sites, of 24 and 15 images, and two that have the same."""
    folder = tmp_path_factory.mktemp("sites")
    write_glyphs(folder / "site-0", 0, 24, tests=9)
    write_glyphs(folder / "site-1", 100, 15, tests=4)
    for site in range(2):
        write_glyphs(folder / f"same-{site}", 0, 40)
    for site in range(2):  # noise, which no pickle makes smaller
        noise = np.random.default_rng(site).integers(0, 256, (100, 1, 28, 28), np.uint8)
        (folder / f"noise-{site}").mkdir()
        (folder / f"noise-{site}" / "train.npz").write_bytes(bytes_of(noise, None))
    for site, labels in enumerate(([0, 1], [1, 2, 3])):
        write_glyphs(folder / f"few-{site}", 0, 40, labels=labels)
    write_glyphs(folder / "bare-0", 0, 10)
    write_glyphs(folder / "odd-0", 0, 10)
    (folder / "odd-1").mkdir()
    tiny = np.zeros((10, 1, 8, 8), np.uint8)
    (folder / "odd-1" / "train.npz").write_bytes(bytes_of(tiny, None))
    return folder


def run(name, *options):
    merged = {"run_dir": name, "glyphs": 40}
    for each in options:
        merged |= each
    if "datadir" in merged:
        del merged["glyphs"]
    return merged


@pytest.fixture(scope="module")
def found(mpirun, folder):
    """What two ranks answer, in one start."""
    averaged = {"optimizer_state": "average"}
    several = [
        run("D, gradients", SGD, D_ALONE),
        run("D, weights", SGD, D_ALONE, ROUNDS),
        run("G, gradients", SGD, G_ALONE),
        run("G, weights", SGD, G_ALONE, ROUNDS, averaged),
        run("copies", SGD, D_ALONE, ROUNDS, {"datadir": "same-{rank}"}),
        run("gradients of copies", SGD, D_ALONE, {"datadir": "same-0"}),
        run("whole", MANY),
        run("blocks", BLOCKS),
        run("blocks, first", BLOCKS, {"steps": 6}),
        {"resume": "blocks, first", "steps": 12},
        run("bare", LONG, {"datadir": "bare-{rank}", "steps": 2}),
        run("odd", LONG, {"datadir": "odd-{rank}", "steps": 2}),
        run("thin", LONG, BY_SITE, {"batch": 1}),
        run("no epochs", LONG, BY_SITE, {"train": "generator"}),
        run(
            "few",
            LONG,
            {"datadir": "few-{rank}", "conditional": "projection", "steps": 4},
        ),
        run("balanced", LONG, BY_SITE, BALANCED),
    ]
    calls = [
        ["train_outcomes", several, str(folder)],
        # In the first of two rounds, of 12 steps each, of the larger site.
        ["train_until", 5, run("stopped", MANY), str(folder)],
        ["train_outcomes", [{"resume": "stopped"}], str(folder)],
        [
            "train_on_first",
            1,
            [run("alone", LONG, {"steps": 6, "every": "4"})],
            str(folder),
        ],
        [
            "train_on_first",
            1,
            [
                run(
                    "alone, gradients",
                    {"preset": "lightning", **FP64, "batch": 8},
                    {"steps": 6, "range": "signed"},
                )
            ],
            str(folder),
        ],
        ["train_on_first", 1, [{"resume": "blocks", "steps": 24}], str(folder)],
        [
            "what_crosses",
            run(
                "seen",
                LONG,
                {"datadir": "noise-{rank}", "steps": 100, "optimizer_state": "local"},
            ),
            str(folder),
        ],
        ["fail_at", 7, run("failed", LONG, BY_SITE), str(folder)],
        ["train_outcomes", [{"resume": "alone", "steps": 8}], str(folder)],
        ["spied"],
        [
            "train_outcomes",
            [run("transferred", LONG, {"transfer": "alone", "steps": 2})],
            str(folder),
        ],
    ]
    return mpirun(2, "on_small_networks", calls, timeout=250)


def newest(folder, name):
    return read_checkpoint(max((folder / name).glob("checkpoint-*.pt")))


def apart(folder, one, other, places=("G", "D")):
    """Return how far the networks of two runs are apart, and which tensor is."""
    states = [
        {f"{p}.{k}": v.double() for p in places for k, v in newest(folder, name)[p].items()}
        for name in (one, other)
    ]
    return distance(*states)


@pytest.mark.slow
def test_all_of_them_train(found):
    assert found[0][0][:10] == [0] * 10


@pytest.mark.slow
@pytest.mark.parametrize("player", ["D", "G"])
def test_averaging_after_every_step_of_sgd_is_averaging_gradients(found, folder, player):
    """With momentum, whose states are the sites' own or, of G, averaged."""
    one, other = f"{player}, weights", f"{player}, gradients"
    assert apart(folder, one, other, places=(player,))[0] < 1e-9
    assert apart(folder, "D, weights", "G, weights", places=(player,))[0] > 1e-3


@pytest.mark.slow
def test_equal_data_at_all_sites_are_one_data_set(found, folder):
    assert apart(folder, "copies", "gradients of copies")[0] < 1e-9


@pytest.mark.slow
def test_one_site_is_gradient_averaging(found, folder):
    """With batch norm, Adam, and rounds that the length of the run cuts off."""
    assert found[0][3] == found[0][4] == [0]
    assert apart(folder, "alone", "alone, gradients")[0] < 1e-9
    assert apart(folder, "alone", "seen")[0] > 1e-3


@pytest.mark.slow
def test_a_stop_waits_for_the_end_of_the_round_and_the_rest_is_the_same_to_the_bit(found, folder):
    assert found[0][1] == 75, found[0][1]
    assert found[0][2] == [0]
    assert (folder / "stopped" / "checkpoint-000012.pt").exists()
    whole, stopped = newest(folder, "whole"), newest(folder, "stopped")
    assert whole["progress"] == stopped["progress"]
    assert whole["progress"]["step"] == 26
    for key in ("G", "D", "G_ema", "sites", "losses", "window"):
        assert_same(whole[key], stopped[key])


def assert_same(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one == other


@pytest.mark.slow
def test_sites_of_different_size_train_an_epoch_each(found, folder):
    """24 and 15 images, 4 an update, 2 epochs a round: 12 and 8 steps, twice, and 2 more."""
    sites = newest(folder, "whole")["sites"]
    assert [site["progress"]["updates_D"] for site in sites] == [12 + 12 + 2, 8 + 8 + 2]
    images = newest(folder, "whole")["progress"]["images"]
    assert images == 4 * (26 + 18)
    states = [site["D_optimizer"]["state"][0]["exp_avg"] for site in sites]
    assert torch.equal(*states), "federated averages the optimizers"
    assert [site["replay"]["count"] for site in sites] == [26, 18]


@pytest.mark.slow
def test_block_momentum_resumes_to_the_bit(found, folder):
    one, other = newest(folder, "blocks"), newest(folder, "blocks, first")
    for key in ("G", "D", "sites", "block_momentum"):
        assert_same(one[key], other[key])
    adagrad = [site["G_optimizer"]["state"][0]["smoothed"] for site in one["sites"]]
    assert not torch.equal(*adagrad), "local optimizer states are the sites' own"


@pytest.mark.slow
def test_another_number_of_sites_is_refused(found):
    sentence, code, everywhere = found[0][5][0]
    assert (code, everywhere) == (2, True)
    assert "was trained by 2 site(s)" in sentence
    assert sentence.endswith("these are 1 rank(s); start 2.")
    assert "was trained by 1 site(s)" in found[0][8][0][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "said"),
    [
        (10, "--datadir: bare-1 does not exist; sought were"),
        (11, "odd-1/train.npz holds samples of 1x8x8, and odd-0/train.npz of 1x28x28"),
        (12, "'--batch': 1 leaves some of 2 sites without images"),
        (13, "'--every': 1epoch, but --train generator consumes no real images"),
    ],
)
def test_what_sites_lack_is_said_in_one_sentence(found, place, said):
    for rank in range(2):
        sentence, _, everywhere = found[rank][0][place]
        assert said in sentence
        assert everywhere


@pytest.mark.slow
def test_what_fails_at_one_site_ends_all_of_them_with_its_sentence(found, folder):
    for answers in found:
        sentence, *others = answers[7]
        assert re.fullmatch(r"site 1 \(.+\) diverged: the loss of D is nan", sentence)
        assert others == [76, True]
    assert (folder / "failed" / "checkpoint-000000.pt").exists()


@pytest.mark.slow
def test_only_weights_and_statistics_cross(found, folder):
    """100 steps are four rounds of 25, an epoch of either site.

    At a checkpoint, of which there are two, the states of the optimizers are gathered.
    """
    state = newest(folder, "seen")
    size = sum(t.numel() * t.element_size() for p in "GD" for t in state[p].values())
    record = json.loads((folder / "seen" / "stats.jsonl").read_text().splitlines()[-1])
    assert (record["bytes_of_a_round"], record["round"]) == (size, 4)
    for answers in found:
        weights, taken, images = answers[6]
        assert weights == [size] * 4
        assert images == 0
        assert taken["gather"] < 2.1 * size, taken
        del taken["gather"], taken["Bcast"]  # once the initial weights
        assert sum(taken.values()) < 60_000, "a site's images have 78,400 bytes"
        assert answers[9] == [3 if answers is found[0] else 2, 3], "the spy sees"


@pytest.mark.slow
def test_a_class_that_one_site_has_not_is_drawn_as_often_as_all_have_it(found, folder):
    assert found[0][0][14] == 0
    data = newest(folder, "few")["data"]
    each = [
        np.bincount(load_dataset(Source(str(folder / f"few-{site}"))).labels, minlength=4)
        for site in range(2)
    ]
    assert data["label_counts"] == list(sum(each))
    assert each[0][3] == 0 < data["label_counts"][3]


@pytest.mark.slow
def test_sites_begin_from_the_networks_of_another_run(found, folder):
    assert found[0][10] == [0]
    state = read_checkpoint(folder / "transferred" / "checkpoint-000000.pt")
    assert_same(state["G"], newest(folder, "alone")["G"])


def test_what_is_due_within_a_round_is_done_at_its_end():
    assert passed(40, 60, 50)
    assert not passed(60, 80, 50)
    assert passed(99, 100, 50)
    assert passed(0, 1000, 50)
    assert not passed(50, 99, 50)


@pytest.mark.slow
def test_sites_may_balance_by_themselves_and_norm_spectra(found):
    assert found[0][0][15] == 0


@pytest.mark.slow
def test_each_round_says_the_losses_of_sites_and_of_all(found, folder):
    record = json.loads((folder / "whole" / "stats.jsonl").read_text().splitlines()[0])
    assert record["step"] == 12
    one, other = record["sites"]
    assert (one["images"], other["images"]) == (24, 15)
    assert not (folder / "whole" / "reals.png").exists(), "a site's own images"
    assert (folder / "D, weights" / "reals.png").exists()
    for name in ("loss_G", "loss_D"):
        mean = (24 * one[name] + 15 * other[name]) / 39
        assert record[name] == record["all_sites"][name] == pytest.approx(mean)
    for name in ("validation_G", "validation_D"):
        mean = (9 * one[name] + 4 * other[name]) / 13
        assert record[name] == pytest.approx(mean)
    lines = (folder / "whole" / "log.txt").read_text()
    assert "  site 1, 15 images:  G " in lines
    assert "  round 1, all sites:  G " in lines
    assert "the number of sites, here 2; each trains by itself" in lines
    assert "  validation G " in lines
