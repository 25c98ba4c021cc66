"""Who is trained in a step, and on which latents."""

import random
from types import SimpleNamespace

import pytest
import torch

from gan_mpi.clock import Clock
from gan_mpi.config.resolve import new_config
from gan_mpi.errors import UserError
from gan_mpi.game.balance import Balance
from gan_mpi.parallel.bucket import Averages
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


class Recorder:
    """Stands in for a feed and for the updates; remembers who was trained on what."""

    def __init__(self, monkeypatch):
        self.calls, self.reals, self.latents = [], [], []
        monkeypatch.setattr(turn, "discriminator_update", self.discriminator)
        monkeypatch.setattr(turn, "generator_update", self.generator)

    parts = ((0, 4),)

    def next_reals(self, position, lo, hi):
        self.reals.append(position)
        return len(dict.fromkeys(self.reals))

    def next_latents(self, position, lo, hi):
        self.latents.append(position)
        return len(dict.fromkeys(self.latents))

    def discriminator(self, comm, game, parts, stop):
        ((real, fake),) = parts
        self.calls.append(("D", real, fake))
        figures = {} if real is None else {"loss_real": 1.0}
        return Averages(figures | ({} if fake is None else {"loss_fake": 1.0}), False)

    def generator(self, comm, game, parts, stop):
        (latents,) = parts
        self.calls.append(("G", latents))
        return Averages({"loss_G": 1.0}, False)


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
    ],
)
def test_a_turn_trains_in_order(monkeypatch, given, expected):
    feed = Recorder(monkeypatch)
    bucket = SimpleNamespace(gradients=torch.zeros(1))
    player = SimpleNamespace(update=lambda lr: None, bucket=bucket)
    comm = SimpleNamespace(clock=Clock(), alike=lambda function: function())
    loss = SimpleNamespace(discriminator=lambda real, fake: real + fake)
    game = SimpleNamespace(G=player, D=player, loss=loss, fakes=lambda latents: latents)
    state = RunState(new_config(given), data=None, game=game)
    turn.Turn(comm, state, feed, SimpleNamespace(requested=False)).play()
    assert feed.calls == expected
    counts = [name for name, *_ in expected]
    assert state.progress.updates_D == counts.count("D")
    assert state.progress.updates_G == counts.count("G")


def test_what_contradicts_itself_is_refused():
    for given, said in (
        ({"schedule": "balance", "train": "generator"}, "'--train': generator, but"),
        ({"preset": "paddle-mnist", "g_steps": 2}, "'--g-steps': --schedule balance"),
        ({"train": "generator", "kimg": 5}, "'--kimg': --train generator consumes no"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            new_config(given)
        assert caught.value.exit_code == 2
