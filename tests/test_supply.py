"""Fakes for two updates of D that follow one another are drawn in one pass, and share messages."""

import pytest

pytestmark = pytest.mark.slow
NORMED = {"network": "dcgan", "latent_dim": 8, "batch": 5, "precision": "fp64", "d_steps": 3}
SPARED = 3 * 1 * 2  # by G's three layers of batch norm, in one of three updates a step, two steps
CASES = {
    "batch norm": (NORMED, SPARED),
    "batch norm of G": (NORMED | {"d_norm": "none"}, SPARED),
    "labels": (NORMED | {"conditional": "projection"}, SPARED),
    "ranks without images": (NORMED | {"batch": 3}, SPARED),
    "apart, of old ones": (NORMED | {"d_update": "separate", "replay": 2}, SPARED),
    "one update": (NORMED | {"d_steps": 1}, 0),
    "local batch norm": (NORMED | {"batch_norm": "local"}, 0),
    "no batch norm": (NORMED | {"network": "dense"}, 0),
}


@pytest.fixture(scope="module")
def found(mpirun):
    return mpirun(4, "drawn_at_once", 2, [(name, given) for name, (given, _) in CASES.items()])[0]


@pytest.mark.parametrize("overlap", ["overlap", "no overlap"])
@pytest.mark.parametrize("name", CASES)
def test_they_are_what_each_update_would_draw_by_itself(found, name, overlap):
    (gap, where), _ = found[name][overlap]
    assert gap < 1e-9, where


@pytest.mark.parametrize("name", CASES)
def test_they_share_messages(found, name):
    assert [spared for _, spared in found[name].values()] == [CASES[name][1]] * 2
