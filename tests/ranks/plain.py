"""Training as plain torch would write it on one process, beside ours on all ranks."""

import copy

import torch
from torch.nn.functional import softplus

from ranks.training import continue_steps, data_of, feed_of, run_steps, shrink_networks


def beside_plain_torch(comm, steps, given):
    """Return how far our weights are from those of a plain loop, relative to the largest of each.

    `given` is Adam with a relativistic loss, R1 and R2 of constant weights, one update each.
    """
    shrink_networks()
    state = run_steps(comm, 0, {**given, "steps": steps})
    G, D = (copy.deepcopy(player.network) for player in (state.game.G, state.game.D))
    data = data_of(state.config.dataset)
    _train_plainly(G, D, feed_of(comm.alone(), state, data), state.config)
    continue_steps(comm, state, steps, data)
    gaps = [
        ((one - other).abs().max() / other.abs().max()).item()
        for ours, plain in ((state.game.G, G), (state.game.D, D))
        for one, other in zip(ours.network.parameters(), plain.parameters(), strict=True)
    ]
    return max(gaps)


def _train_plainly(G, D, feed, config):
    """Train by arXiv 2501.05441, 1 and 2, with penalties in some of the updates alone."""
    adam = {"betas": (config.D.beta1, config.D.beta2), "eps": config.D.epsilon}
    of_G = torch.optim.Adam(G.parameters(), config.G.lr, **adam)
    of_D = torch.optim.Adam(D.parameters(), config.D.lr, **adam)
    for step in range(config.steps):
        at = step * config.batch
        x = feed.next_reals(at, 0, config.batch).values
        z, other_z = (
            feed.next_latents(n, 0, config.batch).values for n in (2 * at, 2 * at + len(x))
        )
        fake = G(z).detach()
        loss = softplus(-(D(x) - D(fake))).mean()
        if step % config.penalty_every == 0:
            r1, r2 = (_squared_slope(D, samples) for samples in (x, fake))
            loss = loss + config.penalty_every / 2 * (config.r1 * r1 + config.r2 * r2).mean()
        of_D.zero_grad()
        loss.backward()
        of_D.step()
        loss = softplus(-(D(G(other_z)) - D(x))).mean()
        of_G.zero_grad()
        loss.backward()
        of_G.step()


def _squared_slope(D, samples):
    samples = samples.clone().requires_grad_()
    (slope,) = torch.autograd.grad(D(samples).sum(), samples, create_graph=True)
    return slope.square().sum((1, 2, 3))
