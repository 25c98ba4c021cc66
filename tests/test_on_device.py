"""What a GPU would do: nothing crosses that need not, and what is not finite changes nothing."""

from types import SimpleNamespace

import pytest
import torch
from conftest import MAIN

from gan_mpi.config.presets import PRESETS
from gan_mpi.config.resolve import new_config
from gan_mpi.game.device_optimizers import ON_DEVICE
from gan_mpi.game.host import Host
from gan_mpi.game.optimizers import ON_HOST, apply_update, load_optimizer, make_optimizer
from gan_mpi.parallel.average import Averages
from gan_mpi.training.books import Books
from gan_mpi.training.captured import WARM, why_not
from gan_mpi.training.state import RunState

OPTIMIZERS = {
    "adam": {"lr": 0.01, "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-8},
    "sgd": {"lr": 0.1, "momentum": 0.5},
    "fsadagrad": {"lr": 0.001, "momentum": 0.99, "beta2": 0.999},
}
SMALL = {"precision": "fp64", "batch": 6}
BASIC = {"batch": 8, "latent_dim": 10}
ALL = {"instance_noise": 0.2, "replay": 2, "real_targets": "0.7-1.2", "gradient_penalty": 1.0}
SCHEDULED = {"lr_schedule": "cosine", "warmup": 0.05, "ema": 0.1, "d_norm": "spectral"}
RAMPS = {"r1": "1:0.1", "r2": "1:0.1", "ema": "0:0.1", "lr": "2e-4:5e-5", "beta2": "0.9:0.99"}
COUNTED = {
    "basic": {"preset": "basic", "batch": 8},
    "dcgan": {"preset": "dcgan", "batch": 4},
    "lightning": {"preset": "lightning", "batch": 4},
    "extras": {**BASIC, **ALL, "r1": 1.0, "ema": 0.1, "g_dropout": 0.2},
    "auxiliary": {**BASIC, "conditional": "auxiliary", "d_update": "separate", "flip": 0.1},
    "clipped": {**BASIC, "loss": "wasserstein", "clip": 0.1, "optimizer": "sgd"},
    "two G": {**BASIC, "g_steps": 2, "g_latents": "repeated", "conditional": "projection"},
}
KEPT = {
    "basic": {"preset": "basic", **SMALL},
    "adam": {**SMALL, **BASIC, "optimizer": "adam", "ema": 0.1, "d_norm": "spectral"},
    "pairs": {**SMALL, **BASIC, "optimizer": "adam", "loss": "relativistic", **RAMPS},
    "sgd": {**SMALL, **BASIC, "optimizer": "sgd", "momentum": 0.5, "d_update": "separate"},
    "plain sgd": {**SMALL, **BASIC, "optimizer": "sgd", "momentum": 0.0},
    "lightning": {"preset": "lightning", **SMALL},
    "balance": {**SMALL, **BASIC, "schedule": "balance"},
    "extras": {**SMALL, **BASIC, **ALL, "conditional": "projection"},
}
WHOLE_STEPS = [
    name for name, preset in PRESETS.items() if "balance" not in preset.settings.values()
]
CAPTURED = {name: {"preset": name, "batch": 4} for name in WHOLE_STEPS} | {
    "schedules": {**BASIC, "lr_schedule": "cosine", "warmup": 0.05, "ema": 0.1, "r1": 1.0},
    "extras": {**BASIC, **ALL, **SCHEDULED, "conditional": "projection", "g_dropout": 0.2},
    "adam": {**BASIC, "optimizer": "adam", "d_norm": "spectral", "lr_schedule": "linear"},
    "sgd": {**BASIC, "optimizer": "sgd", "momentum": 0.5, "d_update": "separate", "flip": 0.1},
    "two G": {**BASIC, "g_steps": 2, "g_latents": "repeated", "conditional": "auxiliary"},
    "clipped": {**BASIC, "loss": "wasserstein", "clip": 0.1, "real_targets": "1"},
    "penalty and norm": {"preset": "dcgan", "batch": 4, "gradient_penalty": 1.0},
    "fp64": {**BASIC, "precision": "fp64", "replay": 3},
    "pairs": {**BASIC, "loss": "relativistic", **RAMPS, "g_steps": 2},
    "augmented as it adapts": {**BASIC, "augment": "color,adaptive", "batch": 100},
    "augmented": {**BASIC, "augment": "color,translation,cutout", "augment_probability": "0:1"},
    "modern": {
        **BASIC,
        **RAMPS,
        "network": "modern",
        "width": 16,
        "loss": "relativistic",
        "batch": 2,
    },
}
LEFT_OUT = [
    ({**BASIC, **ALL, "ema": 0.1}, "real"),
    ({**BASIC, "optimizer": "adam", "replay": 2}, "fake"),
    ({"preset": "lightning", "batch": 6, "optimizer": "sgd", "momentum": 0.5}, "G"),
    ({"preset": "lightning", "batch": 6, "ema": 0.1}, "G"),
    ({**BASIC, "ema": 0.1}, "G"),
    ({**BASIC, "loss": "wasserstein", "clip": 0.01}, "real"),
]


def quickly(cases, *quick):
    """Return parameters of cases, of which some are quick to run and say enough by themselves."""
    return [
        pytest.param(case, id=name, marks=[] if name in quick else pytest.mark.slow)
        for name, case in cases.items()
    ]


@pytest.mark.parametrize("options", quickly(COUNTED, "basic", "dcgan"))
def test_one_rank_waits_for_its_device_when_it_speaks(mpirun, options):
    """Between two status lines nothing is read; then all figures in one piece."""
    (found,) = mpirun(1, "crossings", [options])[0]
    assert (found["waits"], found["nbytes"], found["messages"]) == (0, 0, 0)
    waited, figures = found["read"]
    assert waited == 1 and figures > 8


@pytest.mark.slow
def test_two_ranks_read_what_crosses_and_nothing_else(mpirun):
    """But for three numbers of an update, which the host alone has."""
    names = ["basic", "dcgan", "lightning", "extras"]
    for everyone in zip(*mpirun(2, "crossings", [COUNTED[name] for name in names]), strict=True):
        for found in everyone:
            assert found["waits"] == found["messages"]
            assert found["nbytes"] == found["sent"] - found["facts"]


@pytest.mark.parametrize("options", quickly(KEPT, "extras"))
def test_numbers_that_stay_on_a_device_make_the_same_model(mpirun, options):
    (found,) = mpirun(1, "as_on_a_device", 6, [options])[0]
    assert found["state"][0] < 1e-11, found["state"]
    assert found["means"][0] < 1e-11, found["means"]
    assert found["counts"] and found["updates"]
    assert found["often"], "reading figures earlier changes them"


@pytest.mark.parametrize("options", quickly(CAPTURED, "extras"))
def test_a_turn_that_is_recorded_is_to_the_bit_the_one_that_is_played(mpirun, options):
    """20 steps, and 10 that another start goes on with."""
    ((whole, rest, launched),) = mpirun(1, "captured", 20, [options])[0]
    assert whole[0] == 0, f"{whole[1]} differs"
    assert rest[0] == 0, f"{rest[1]} differs in a run that goes on"
    filling = -(-options.get("replay", 0) // 2)  # steps, of two updates of D each
    assert launched == 20 - filling - WARM - 1


@pytest.mark.parametrize("updates", [1, 2, 3, 4, 8])
def test_figures_wait_in_their_order_however_many_there_are(updates):
    books, noted, expected = Books(Host()), [], []
    for step in range(600):
        for number in range(updates):
            figures = torch.tensor([float(step), float(number)]).double()
            averages = Averages(
                ("a", "b"), figures, torch.zeros((), dtype=torch.double), False, False
            )
            books.step = step
            books.enter(averages, lambda figures, step: noted.append([*figures, step]))
            expected.append([float(step), float(number), 0.0, step])
        books.after(lambda step=step: noted.append(step))
        expected.append(step)
    books.settle()
    assert noted == expected


@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS.items())
def test_an_optimizer_goes_on_with_what_another_device_saved(kind, settings):
    """To a device and back, as if there were but one."""
    places = [ON_HOST, ON_DEVICE, ON_HOST]
    weights = []
    for moves in (False, True):
        saved, weight = None, torch.linspace(-1, 1, 6).double()
        for kinds in places:
            parameter = torch.nn.Parameter(weight.clone())
            kinds = kinds if moves else ON_HOST
            optimizer = make_optimizer(kind, [parameter], settings, 8, kinds)
            if saved is not None:
                load_optimizer(optimizer, saved)
            for number in range(3):
                parameter.grad = torch.cos(weight * (3 + number))
                apply_update(optimizer)
            saved, weight = optimizer.state_dict(), parameter.detach()
        ways = optimizer.param_groups[0]
        assert (ways.get("fused"), ways.get("foreach")) == {
            "adam": (True, None),
            "sgd": (None, True),
            "fsadagrad": (None, None),
        }[kind]
        weights.append(weight)
    assert torch.allclose(*weights, rtol=0, atol=1e-13)


def test_batches_drawn_ahead_are_those_that_would_be_drawn_now(mpirun):
    labelled = {**BASIC, "conditional": "projection", "g_dropout": 0.2}
    assert mpirun(2, "fed", 3, [{**BASIC, "batch": 7}, labelled]) == [[[], []]] * 2


@pytest.mark.parametrize(
    ("options", "kind"),
    [pytest.param(*case, marks=pytest.mark.slow) for case in LEFT_OUT[1:]] + [LEFT_OUT[0]],
)
def test_an_update_that_is_not_finite_and_all_after_it_change_nothing(mpirun, options, kind):
    ((changed, said, code),) = mpirun(1, "left_out", [(options, kind)])[0]
    assert changed == []
    assert code == 76 and "in step 4. The last checkpoint is kept" in said


RECORDED = (
    """
from gan_mpi.parallel import staging
from gan_mpi.training import replicas
from ranks.graphs import Tape
staging.is_host = lambda device: False
replicas.graph_of = lambda device: Tape()
"""
    + MAIN
)


@pytest.mark.slow
def test_a_run_on_a_device_that_launches_its_steps_is_the_one_that_plays_them(gan_mpi, tmp_path):
    """By the command line, with evaluations, checkpoints, and a start that goes on."""
    options = ("--glyphs", 60, "--batch", 12, "--checkpoint-every", 4, "--keep", "all")
    for name, graphs in (("played", "--no-graphs"), ("launched", "--graphs")):
        given = ("train", *options, "--ema", 0.1, "--run-dir", name, "--steps")
        for steps in (9, 20):
            done = gan_mpi(*given, steps, graphs, code=RECORDED)
            assert done.returncode == 0, done.stderr
            said = "after 3 steps one is recorded, and launched for each that follows."
            assert (said in done.stdout) == (graphs == "--graphs")
    for step in (0, 4, 8, 9, 12, 16, 20):
        one, other = (
            (tmp_path / name / f"checkpoint-{step:06d}.pt").read_bytes()
            for name in ("played", "launched")
        )
        assert one == other, f"of step {step}"


@pytest.mark.parametrize(
    ("options", "size", "why"),
    [
        (("--steps", 1), None, "steps are not recorded: this is for GPUs."),
        (("--average", "weights"), 2, "Invalid value for '--graphs': it is for one rank, and"),
    ],
)
def test_where_no_step_can_be_recorded_it_is_said(gan_mpi, options, size, why):
    done = gan_mpi("train", "--glyphs", 20, "--batch", 4, "--graphs", *options, size=size)
    assert why in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("ranks", "options", "explains", "why"),
    [
        (2, {}, False, "gradients are summed over ranks within a step"),
        (1, {"preset": "paddle-mnist"}, False, "the host chooses who is trained"),
        (1, {"schedule": "balance"}, False, "the host chooses who is trained"),
        (1, {}, True, "each update is shown (--explain)"),
        (1, {}, False, ""),
    ],
)
def test_what_is_recorded_and_what_is_not(ranks, options, explains, why):
    comm = SimpleNamespace(world_size=ranks)
    game = SimpleNamespace(G=SimpleNamespace(bucket=SimpleNamespace(on_host=False)))
    state = RunState(new_config(options), data=None, game=game)
    found = why_not(comm, state, explains)
    assert found.startswith(why) and bool(found) == bool(why)
