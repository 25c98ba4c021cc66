"""Every random number, keyed by what it is for and not by the rank that draws it.

A stream is numpy's Philox counter generator under the key (seed, purpose).  Item i of a
stream owns the counters i*b+1 .. (i+1)*b, where b is the number of 4-word blocks an item
needs, so that any rank can draw any slice of the one global stream by itself.
"""

import functools
from collections.abc import Sequence
from enum import IntEnum

import numpy as np

WORDS_PER_BLOCK = 4
ROLLBACK = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: far from every other seed


class Purpose(IntEnum):
    """What a stream is for; the numbers are part of every run and never change."""

    ORDER = 1
    LATENTS = 2
    WEIGHTS_G = 3
    WEIGHTS_D = 4
    SAMPLES = 5
    GLYPHS = 6
    POINTS = 7
    WEIGHTS_CLASSIFIER = 8
    LABELS = 9
    DROPOUT = 10
    NOISE_REAL = 11
    NOISE_FAKE = 12
    TARGETS_REAL = 13
    TARGETS_FAKE = 14
    MIXING = 15
    REPLAY = 16
    SAMPLE_LABELS = 17
    SAMPLE_DROPOUT = 18
    SPECTRAL = 19
    VALIDATION = 20
    VALIDATION_DROPOUT = 21
    VALIDATION_LABELS = 22
    SPLIT = 23
    BOOTSTRAP_REAL = 24
    BOOTSTRAP_FAKE = 25
    AUGMENT_REAL = 26
    AUGMENT_FAKE = 27


def seed_after(seed: int, rollbacks: int) -> int:
    """Return the seed of a run's streams once it has gone back so often, 0 <= seed < 2**64."""
    return (seed + rollbacks * ROLLBACK) % 2**64


def random_words(seed: int, purpose: Purpose, start: int, stop: int, width: int) -> np.ndarray:
    """Return items start..stop of a stream as uint64 of shape (stop - start, width)."""
    blocks = -(-width // WORDS_PER_BLOCK)
    key = np.array([seed, purpose], dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=start * blocks)
    words = generator.random_raw((stop - start) * blocks * WORDS_PER_BLOCK)
    return words.reshape(stop - start, blocks * WORDS_PER_BLOCK)[:, :width]


def uniforms(seed: int, purpose: Purpose, start: int, stop: int, width: int) -> np.ndarray:
    """Return items start..stop as float64 in [0, 1), of shape (stop - start, width)."""
    words = random_words(seed, purpose, start, stop, width)
    words >>= np.uint64(11)
    return words * 2.0**-53


def box_muller(uniform: np.ndarray) -> np.ndarray:
    """Turn uniforms in [0, 1), an even number in the last axis, into as many standard normals.

    Box and Muller, Annals of Mathematical Statistics 29 (1958): always two for two.
    """
    one, other = np.split(uniform, 2, axis=-1)
    radius, angle = np.sqrt(-2.0 * np.log1p(-one)), 2.0 * np.pi * other
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def draw_latents(
    kind: str, seed: int, purpose: Purpose, start: int, stop: int, dimension: int
) -> np.ndarray:
    """Return latents start..stop as float64 of shape (stop - start, dimension).

    `kind` is 'uniform', in [-1, 1); 'normal', with mean 0 and standard deviation 1; or 'sphere',
    normal and then of length sqrt(dimension).
    """
    if kind in ("normal", "sphere"):
        drawn = uniforms(seed, purpose, start, stop, dimension + dimension % 2)
        normal = box_muller(drawn)[:, :dimension]
        if kind == "normal":
            return normal
        return normal * np.sqrt(dimension / np.square(normal).sum(1, keepdims=True))
    drawn = uniforms(seed, purpose, start, stop, dimension)
    drawn *= 2.0
    drawn -= 1.0
    return drawn


def draw_labels(
    counts: Sequence[int], seed: int, purpose: Purpose, start: int, stop: int
) -> np.ndarray:
    """Return labels start..stop as int64 (stop - start,), as often as each is in `counts`."""
    drawn = uniforms(seed, purpose, start, stop, 1)[:, 0]
    bounds = np.cumsum(counts)
    return np.searchsorted(bounds, drawn * bounds[-1], side="right")


def shard(count: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return the positions lo, hi of `count` that are this rank's; shares differ by at most 1."""
    return rank * count // world_size, (rank + 1) * count // world_size


class DataOrder:
    """The endless sequence of data indices: each epoch one permutation, keyed by (seed, epoch)."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed = seed
        self.count = count

    def indices(self, start: int, stop: int) -> np.ndarray:
        """Return the data indices at positions start..stop, across the ends of epochs."""
        parts = [np.empty(0, dtype=np.int64)]
        while start < stop:
            epoch, offset = divmod(start, self.count)
            taken = min(stop - start, self.count - offset)
            parts.append(_permutation(self.seed, self.count, epoch)[offset : offset + taken])
            start += taken
        return np.concatenate(parts)


@functools.lru_cache(maxsize=2)  # a batch may span two; of millions of images one takes seconds
def _permutation(seed: int, count: int, epoch: int) -> np.ndarray:
    return _order(random_words(seed, Purpose.ORDER, epoch, epoch + 1, count)[0])


def _order(words: np.ndarray) -> np.ndarray:
    """Return the places of words by size, of equal ones by place, in half the bytes of an index.

    The sort that is not stable takes half the time, and almost no words are equal.
    """
    order = np.argsort(words)
    ascending = words[order]
    if (ascending[1:] == ascending[:-1]).any():
        order = np.argsort(words, kind="stable")
    return order.astype(np.uint32 if len(words) <= 1 << 32 else np.int64)
