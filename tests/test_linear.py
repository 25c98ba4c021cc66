"""The linear layer that writes its gradient into the bucket computes what torch's does."""

import copy
from unittest.mock import Mock, patch

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from gan_mpi.cluster.processors import MKL, ONEDNN
from gan_mpi.extras.penalties import slopes
from gan_mpi.game.batch import Batch
from gan_mpi.game.optimizers import apply_update, make_optimizer
from gan_mpi.parallel.bucket import GradientBucket
from gan_mpi.parallel.linear import LEAST, Linear, _onednn, compute_linear

INPUTS, OUTPUTS = 1024, 1100
assert INPUTS * OUTPUTS > LEAST
HALF = torch.bfloat16
OPTIMIZERS = {
    "adam": {"lr": 0.01, "beta1": 0.5, "beta2": 0.999, "epsilon": 1e-8},
    "sgd": {"lr": 0.01, "momentum": 0.5},
    "fsadagrad": {"lr": 0.01, "momentum": 0.999, "beta2": 0.999},
}


@pytest.fixture
def layers():
    """torch's layer and ours, with the same weights."""
    torch.manual_seed(1)
    plain, ours = nn.Linear(INPUTS, OUTPUTS), Linear(INPUTS, OUTPUTS)
    ours.load_state_dict(plain.state_dict())
    return plain, ours


def bucket_of(layer):
    bucket = GradientBucket(nn.Sequential(layer, nn.Tanh()), room=0)
    bucket.gradients.fill_(7)  # of an update before
    bucket.zero()
    return bucket


def batch(images=5):
    torch.manual_seed(2)
    return torch.randn(images, INPUTS, requires_grad=True)


def apply(layer, inputs, halved):
    with torch.autocast("cpu", HALF, enabled=halved):
        return layer(inputs)


def equal(one, other):
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("images", [0, 5])
@pytest.mark.parametrize("halved", [False, True])
def test_outputs_and_gradients_are_torchs(layers, halved, images):
    found = []
    for layer in layers:
        inputs, bucket = batch(images), bucket_of(layer)
        outputs = apply(layer, inputs, halved)
        outputs.tanh().sum().backward()
        bucket.settle()
        found.append([outputs, inputs.grad, layer.weight.grad, layer.bias.grad])
    assert equal(*found)
    assert layers[1].weight.grad.any() == (images > 0)


@pytest.mark.parametrize("halved", [False, True])
def test_a_gradient_of_a_gradient_is_torchs(layers, halved):
    found = []
    for layer in layers:
        inputs, bucket = batch(), bucket_of(layer)
        outputs = apply(layer, inputs, halved).float()
        (slope,) = torch.autograd.grad(outputs.tanh().sum(), inputs, create_graph=True)
        (slope.square().sum() + outputs.sum()).backward()
        bucket.settle()
        found.append([slope, inputs.grad, layer.weight.grad, layer.bias.grad])
    assert all(torch.allclose(a, b, rtol=1e-2, atol=1e-2) for a, b in zip(*found, strict=True))
    assert halved or torch.allclose(found[0][2], found[1][2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("halved", [False, True])
def test_the_first_gradient_is_written_where_it_is_to_be(layers, halved):
    """The bucket need not bring it there."""
    bucket = bucket_of(layers[1])
    apply(layers[1], batch(), halved).tanh().sum().backward()
    assert layers[1].weight.grad.data_ptr() == bucket.views[0].data_ptr()


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("times", ["in two backwards", "in one graph"])
def test_gradients_of_two_uses_are_added(layers, halved, times):
    found = []
    for layer in layers:
        bucket = bucket_of(layer)
        losses = [apply(layer, k * batch(), halved).float().tanh().sum() for k in (1, 2)]
        if times == "in one graph":
            losses = [sum(losses)]
        for loss in losses:
            loss.backward()
        bucket.settle()
        assert layer.weight.grad.data_ptr() == bucket.views[0].data_ptr()
        found.append(bucket.gradients.clone())
    assert torch.allclose(*found, rtol=1e-5, atol=1e-5)


class Halved(nn.Module):
    """A weight that is computed, by what counts how often."""

    times = 0

    def forward(self, weight):
        self.times += 1
        return weight / 2


@pytest.mark.parametrize("halved", [False, True])
def test_a_weight_that_is_computed_is_so_once_a_pass_and_anew(layers, halved):
    """As by spectral norm, which moves at every computation."""
    found, times = [], []
    for layer in layers:
        rule = Halved()
        register_parametrization(layer, "weight", rule)
        bucket = bucket_of(layer)
        optimizer = make_optimizer("adam", layer.parameters(), OPTIMIZERS["adam"], 5)
        before, outputs = rule.times, []
        for _ in range(3):
            bucket.zero()
            outputs.append(apply(layer, batch(), halved))
            outputs[-1].float().tanh().sum().backward()
            bucket.settle()
            apply_update(optimizer)
        times.append(rule.times - before)
        found.append([*outputs, *layer.parameters()])
    assert equal(*found)
    assert times == [3, 3]


def test_the_slope_of_a_penalty_takes_no_gradient_of_weights(layers, monkeypatch):
    taken = []
    monkeypatch.setattr(Linear, "weight_as", lambda self, dtype: taken.append(dtype) or self.weight)
    inputs = Batch("real", batch().detach(), 0)
    slopes(lambda samples: layers[1](*samples.inputs), inputs).sum().backward()
    assert not taken
    layers[1](batch())
    assert taken, "else nothing is shown"


def test_a_gradient_that_was_taken_away_is_noticed(layers):
    bucket = bucket_of(layers[1])
    layers[1](batch()).sum().backward()
    layers[1].weight.grad = None
    with pytest.raises(RuntimeError, match="left its bucket"):
        bucket.settle()


def test_a_copy_has_nothing_of_the_first_but_weights(layers):
    bucket = bucket_of(layers[1])
    apply(layers[1], batch(), True)
    other, plain = copy.deepcopy(layers[1]), layers[0]
    with torch.no_grad():
        while other.weight._version < layers[1].weight._version:
            for layer in (other, plain):
                layer.weight.add_(1)
    other(batch()).sum().backward()
    assert bucket.views[0].eq(7).all()
    assert torch.equal(apply(other, batch(), True), apply(plain, batch(), True))


def test_a_network_that_learned_nothing_has_gradients_of_zero(layers):
    bucket = bucket_of(layers[1])
    bucket.settle()
    assert not bucket.buffer.any()
    bucket.zero()
    layers[1].requires_grad_(False)
    layers[1](batch()).sum().backward()
    layers[1].requires_grad_(True)
    bucket.settle()
    assert not bucket.buffer.any()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_rounded_weights_follow_every_update(layers, kind):
    found = []
    for layer in layers:
        bucket = bucket_of(layer)
        optimizer = make_optimizer(kind, layer.parameters(), OPTIMIZERS[kind], 5)
        outputs = []
        for _ in range(3):
            bucket.zero()
            outputs.append(apply(layer, batch(), True))
            outputs[-1].tanh().sum().backward()
            bucket.settle()
            apply_update(optimizer)
        found.append([*outputs, *layer.parameters()])
    assert equal(*found)
    assert not torch.equal(found[1][0], found[1][1])


def test_rounded_weights_follow_what_is_loaded(layers):
    plain, ours = layers
    before = apply(ours, batch(), True)
    other = {name: tensor + 1 for name, tensor in plain.state_dict().items()}
    ours.load_state_dict(other)
    plain.load_state_dict(other)
    assert torch.equal(apply(ours, batch(), True), apply(plain, batch(), True))
    for tensor in ours.state_dict().values():  # as a broadcast from root does
        tensor.copy_(torch.from_numpy(tensor.numpy() - 1))
    assert torch.allclose(apply(ours, batch(), True).float(), before.float(), atol=0.1)


@pytest.mark.parametrize("images", [0, 5])
@pytest.mark.parametrize("outputs", [3, OUTPUTS])
def test_onednn_computes_the_same_but_for_last_bits(images, outputs):
    """In training; sampling is torch's, whatever the processor of the training was."""
    torch.manual_seed(1)
    plain, ours = nn.Linear(INPUTS, outputs), Linear(INPUTS, outputs)
    ours.load_state_dict(plain.state_dict())
    compute_linear([ours], ONEDNN)
    found = []
    with patch("gan_mpi.parallel.linear._onednn", Mock(side_effect=_onednn)) as product:
        for layer in (plain, ours):
            inputs, bucket = batch(images), bucket_of(layer)
            layer(inputs).tanh().sum().backward()
            bucket.settle()
            found.append([inputs.grad, layer.weight.grad, layer.bias.grad])
        assert product.call_count == 2, "outputs, and the gradient of the inputs"
        assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(*found, strict=True))
        compute_linear([ours], MKL)
        assert torch.equal(ours(batch(images)), plain(batch(images)))
        compute_linear([ours], ONEDNN)
        assert torch.equal(ours.eval()(batch(images)), plain(batch(images)))
        ours.train().double()(batch(images).double())
        assert product.call_count == 2


def test_a_gradient_of_a_gradient_is_torchs_beside_onednn(layers):
    compute_linear([layers[1]], ONEDNN)
    found = []
    for layer in layers:
        inputs = batch()
        (slope,) = torch.autograd.grad(layer(inputs).tanh().sum(), inputs, create_graph=True)
        slope.square().sum().backward()
        found.append([slope, inputs.grad, layer.weight.grad])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*found, strict=True))
