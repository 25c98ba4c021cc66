"""Streams: any rank's slice is that part of the one global stream."""

import numpy as np
import pytest

from gan_mpi import streams
from gan_mpi.streams import DataOrder, Purpose, draw_latents, random_words, shard, uniforms


def test_slices_of_a_stream_make_the_whole():
    whole = uniforms(7, Purpose.LATENTS, 0, 50, 101)
    parts = [uniforms(7, Purpose.LATENTS, a, b, 101) for a, b in ((0, 3), (3, 3), (3, 50))]
    assert np.array_equal(np.concatenate(parts), whole)


def test_streams_differ_by_seed_and_by_purpose_and_not_by_call():
    draw = uniforms(1, Purpose.LATENTS, 0, 2, 5)
    assert np.array_equal(draw, uniforms(1, Purpose.LATENTS, 0, 2, 5))
    assert not np.isin(draw, uniforms(2, Purpose.LATENTS, 0, 2, 5)).any()
    assert not np.isin(draw, uniforms(1, Purpose.SAMPLES, 0, 2, 5)).any()


def test_the_streams_never_change():
    """Figures of version 0.1.0: a change would break every run that is to be resumed."""
    assert uniforms(3, Purpose.LATENTS, 10, 11, 2)[0] == pytest.approx(
        [0.286207577530066, 0.5410864020249458], abs=1e-15
    )
    assert DataOrder(3, 10).indices(0, 5).tolist() == [9, 7, 8, 3, 5]


def test_uniforms_are_uniform():
    draw = draw_latents("uniform", 0, Purpose.LATENTS, 0, 20_000, 10)
    assert -1 <= draw.min() < -0.999 and 0.999 < draw.max() < 1
    assert abs(draw.mean()) < 0.005
    assert draw.var() == pytest.approx(1 / 3, abs=0.005)
    assert abs(np.corrcoef(draw.T) - np.eye(10)).max() < 0.03


@pytest.mark.parametrize("dimension", [10, 7])
def test_normal_latents_are_normal_and_sliced_like_the_others(dimension):
    draw = draw_latents("normal", 0, Purpose.LATENTS, 0, 20_000, dimension)
    part = draw_latents("normal", 0, Purpose.LATENTS, 5, 8, dimension)
    assert np.array_equal(draw[5:8], part)
    assert abs(draw.mean()) < 0.01
    assert draw.std() == pytest.approx(1, abs=0.01)
    assert (draw**4).mean() == pytest.approx(3, abs=0.1)  # kurtosis
    assert abs(np.corrcoef(draw.T) - np.eye(dimension)).max() < 0.03


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("count", [1024, 7, 3, 1])
def test_shards_are_disjoint_and_complete_and_differ_by_one_at_most(count, world_size):
    shards = [shard(count, rank, world_size) for rank in range(world_size)]
    positions = [position for lo, hi in shards for position in range(lo, hi)]
    assert positions == list(range(count))
    sizes = [hi - lo for lo, hi in shards]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_shards_of_an_epoch_are_the_whole_data_set_once(world_size):
    """60 images in batches of 16: the fourth batch crosses the end of the epoch."""
    order, seen = DataOrder(0, 60), []
    for start in range(0, 128, 16):
        for rank in range(world_size):
            lo, hi = shard(16, rank, world_size)
            seen.extend(order.indices(start + lo, start + hi).tolist())
    assert sorted(seen[:60]) == list(range(60))
    assert sorted(seen[60:120]) == list(range(60))
    assert seen[:60] != seen[60:120]


def test_a_batch_may_span_several_epochs():
    order = DataOrder(0, 5)
    assert sorted(order.indices(0, 15).tolist()) == sorted([0, 1, 2, 3, 4] * 3)
    assert np.array_equal(order.indices(3, 12), order.indices(0, 15)[3:12])
    assert order.indices(4, 4).size == 0


def test_an_epoch_is_drawn_once_in_a_process(monkeypatch):
    """The first images that are shown and those that are trained on are of one order."""
    drawn = []
    monkeypatch.setattr(
        streams, "random_words", lambda *which: drawn.append(which[2]) or random_words(*which)
    )
    for _ in range(2):
        assert len(set(DataOrder(4, 7).indices(0, 14).tolist())) == 7
    assert drawn == [0, 1]


def test_the_order_is_that_of_a_stable_sort():
    words = random_words(7, Purpose.ORDER, 2, 3, 5000)[0]
    assert np.array_equal(
        DataOrder(7, 5000).indices(10_000, 15_000), np.argsort(words, kind="stable")
    )
    twice = np.repeat(np.arange(5000, dtype=np.uint64)[::-1], 2)
    assert np.array_equal(streams._order(twice), np.argsort(twice, kind="stable"))
