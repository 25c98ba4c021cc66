"""Weights averaged over ranks."""

import pytest

CHANGES = [[0.1, 0.3], [-0.2, 0.4], [0.0, 0.1]]


@pytest.fixture(scope="module")
def found(mpirun):
    """What two ranks answer, in one start."""
    kinds = ("local", "average", "reset")
    calls = [
        *(["weighted_average", kind] for kind in kinds),
        ["block_momentum", 0.25, CHANGES],
        ["block_momentum", 0.5, CHANGES],
    ]
    return mpirun(2, "several", calls)


def test_the_average_is_weighted(found):
    for answers in found:
        networks, states, given = answers[0]
        assert networks == [0.25 * 1 + 0.75 * 2]
        assert states == ([1.0], [2.0])[answers is found[1]]
        networks, states, more = answers[1]
        assert networks == states == [1.75]
        assert more > 2.5 * given
        assert answers[2][1] == [], "the optimizers begin anew"


@pytest.mark.parametrize(("place", "momentum"), [(3, 0.25), (4, 0.5)])
def test_block_momentum_is_cntks(found, place, momentum):
    """BlockMomentumSGD.h: the sum of changes over ranks, smoothed, and Nesterov's look ahead."""
    weight, smoothed, expected = 1.0, 0.0, []
    for changes in CHANGES:
        block_gradient = sum(weight - (weight + change) for change in changes)
        smoothed = momentum * smoothed + (1 - momentum) * block_gradient
        weight = weight - smoothed - momentum * smoothed
        expected.append(weight)
    assert found[0][place] == pytest.approx(expected, abs=1e-12)
    assert found[1][place] == found[0][place]
