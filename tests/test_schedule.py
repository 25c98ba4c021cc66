"""Who is trained in a step, and on which latents."""

import random
from types import SimpleNamespace

import pytest
import torch

from gan_mpi.clock import Clock
from gan_mpi.config.resolve import new_config
from gan_mpi.errors import UserError
from gan_mpi.game.balance import Balance
from gan_mpi.game.losses import LOSSES
from gan_mpi.parallel.average import Averages
from gan_mpi.training import turn
from gan_mpi.training.state import RunState


def trained_by_the_original(losses):
    """The rule as PaddlePaddle's gan_trainer.py writes it."""
    current, strike, chosen = "dis", 0, []
    for d, g in losses:
        if not (current == "dis" and strike == 5) and ((current == "gen" and strike == 5) or d > g):
            strike = strike + 1 if current == "dis" else 1
            current = "dis"
        else:
            strike = strike + 1 if current == "gen" else 1
            current = "gen"
        chosen.append({"dis": "D", "gen": "G"}[current])
    return chosen


@pytest.mark.parametrize("bias", [0.0, 0.4, -0.4, 2.0, -2.0])
def test_balance_is_the_rule_of_the_original(bias):
    numbers = random.Random(0)
    losses = [(numbers.random() + bias, numbers.random()) for _ in range(500)]
    rule = Balance()
    assert [rule.choose(*pair) for pair in losses] == trained_by_the_original(losses)


def test_balance_goes_on_where_it_was():
    rule = Balance("G", 5)
    assert rule.choose(0.0, 1.0) == "D"
    assert rule == Balance("D", 1)


PAIRS = {"loss": "relativistic"}


class Recorder:
    """Stands in for a supply and for the updates; remembers who was trained on what.

    `ahead` are who was to come next and where its batches would begin, by each update.
    """

    def __init__(self, monkeypatch):
        self.calls, self.begins, self.ahead = [], {"real": [], "fake": []}, []
        self.again = []  # by each update of D, whether it is told that another follows
        monkeypatch.setattr(turn, "discriminator_update", self.discriminator)
        monkeypatch.setattr(turn, "generator_update", self.generator)

    def reals(self, position):
        return [("real", position)]

    def fakes(self, position, again):
        self.again.append(again)
        return [("fake", position)]

    def samples(self, position):
        return [("fake", position)]

    def learned(self, position):
        return None

    def make_ahead(self, updated, following, images, latents):
        self.ahead.append((updated, following, images, latents))

    def number(self, batch):
        """Return the how manieth batch of its stream this is."""
        if batch is None:
            return None
        kind, position = batch
        self.begins[kind].append(position)
        return len(dict.fromkeys(self.begins[kind]))

    def discriminator(self, comm, game, parts, stop, meanwhile, learned, penalised):
        ((real, fake),) = parts
        self.calls.append(("D", self.number(real), self.number(fake)))
        meanwhile()
        figures = {} if real is None else {"loss_real": 1.0}
        return averages(figures | ({} if fake is None else {"loss_fake": 1.0}))

    def generator(self, comm, game, parts, stop, meanwhile):
        ((real, fake),) = parts
        rival = () if real is None else (self.number(real),)
        self.calls.append(("G", self.number(fake), *rival))
        meanwhile()
        return averages({"loss_G": 1.0})


def averages(means):
    """Return means by name, as the sums of an update bring them."""
    return Averages(tuple(means), torch.tensor(list(means.values())), torch.zeros(()), True, False)


def state_of(given):
    """Return the state of players that do nothing, and ranks that are none."""
    bucket = SimpleNamespace(gradients=torch.zeros(1))
    nothing = {"update": lambda update: None, "set_rates": lambda lr, beta2: None}
    player, config = SimpleNamespace(**nothing, bucket=bucket), new_config(given)
    game = SimpleNamespace(G=player, D=player, loss=LOSSES[config.loss])
    comm = SimpleNamespace(clock=Clock(), alike=lambda function: function())
    return comm, RunState(config, data=None, game=game)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [("D", 1, 1), ("D", 2, 2), ("G", 3)]),
        (
            {"preset": "dcgan-206b"},
            [("D", 1, 1), ("D", 2, 2), ("G", 3), ("G", 3)],
        ),
        ({"d_steps": 1, "g_steps": 2}, [("D", 1, 1), ("G", 2), ("G", 3)]),
        ({"preset": "lightning"}, [("G", 1), ("D", 1, 2)]),
        ({"train": "generator", "g_steps": 2}, [("G", 1), ("G", 2)]),
        ({"train": "discriminator"}, [("D", 1, 1), ("D", 2, 2)]),
        (
            {"d_update": "separate", "d_steps": 1},
            [("D", None, 1), ("D", 1, None), ("G", 2)],
        ),
        (PAIRS, [("D", 1, 1), ("D", 2, 2), ("G", 3, 2)]),
        (PAIRS | {"d_steps": 1, "g_steps": 2}, [("D", 1, 1), ("G", 2, 1), ("G", 3, 1)]),
        (PAIRS | {"first": "generator"}, [("G", 1, 1), ("D", 1, 2), ("D", 2, 3)]),
        (PAIRS | {"train": "generator", "g_steps": 2}, [("G", 1, 1), ("G", 2, 2)]),
    ],
)
def test_a_turn_trains_in_order(monkeypatch, given, expected):
    supply = Recorder(monkeypatch)
    comm, state = state_of(given)
    turn.Turn(comm, state, supply, SimpleNamespace(requested=False)).play()
    assert supply.calls == expected
    counts = [name for name, *_ in expected]
    assert state.progress.updates_D == counts.count("D")
    assert state.progress.updates_G == counts.count("G")


@pytest.mark.parametrize(
    ("given", "again"),
    [
        ({}, [True, False]),
        ({"d_steps": 3}, [True, True, False]),
        ({"preset": "lightning"}, [False]),
        ({"train": "discriminator"}, [True, False]),
        ({"d_update": "separate", "d_steps": 1}, [False]),
    ],
)
def test_it_is_known_when_another_update_of_D_follows(monkeypatch, given, again):
    supply = Recorder(monkeypatch)
    comm, state = state_of(given)
    turn.Turn(comm, state, supply, SimpleNamespace(requested=False)).play()
    assert supply.again == again


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"preset": "dcgan-206b"},
        {"preset": "lightning"},
        {"d_steps": 1, "g_steps": 2},
        {"d_steps": 1, "g_steps": 2, "g_latents": "repeated"},
        {"first": "generator", "d_steps": 2, "g_steps": 2, "g_latents": "repeated"},
        {"train": "generator"},
    ],
)
def test_what_is_made_ahead_is_what_the_next_update_takes(monkeypatch, given):
    supply = Recorder(monkeypatch)
    comm, state = state_of(given)
    for _ in range(3):
        turn.Turn(comm, state, supply, SimpleNamespace(requested=False)).play()
    pauses = turn.Turn(comm, state, supply, SimpleNamespace(requested=False), pauses=True)
    pauses.play()
    trained = [player for player, *_ in supply.calls]
    assert [updated for updated, *_ in supply.ahead] == trained[:-1], "one was looked ahead of"
    assert [following for _, following, *_ in supply.ahead] == trained[1:]
    latents, reals = supply.begins["fake"][1:], iter(supply.begins["real"][trained[0] == "D" :])
    assert [latent for *_, latent in supply.ahead] == latents
    for _, following, images, _ in supply.ahead:
        assert following == "G" or images == next(reals)


def test_what_contradicts_itself_is_refused():
    for given, said in (
        ({"schedule": "balance", "train": "generator"}, "'--train': generator, but"),
        ({"preset": "paddle-mnist", "g_steps": 2}, "'--g-steps': --schedule balance"),
        ({"train": "generator", "kimg": 5}, "'--kimg': --train generator consumes no"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            new_config(given)
        assert caught.value.exit_code == 2
