"""Figures from a classifier's probabilities: the score, the histogram, the missing modes."""

from collections.abc import Sequence

import numpy as np

Labels = np.ndarray  # of integers
MISSING = 0.1  # of an even share: a class with less is missing


def classifier_score(probabilities: np.ndarray) -> float:
    """Return exp of the mean KL(p(y|x) || p(y)) of (N, classes): 1 to the number of classes.

    The Inception score of Salimans et al., arXiv 1606.03498, with another classifier.
    """
    logs = np.log(np.maximum(probabilities, 1e-300))
    marginal = np.log(np.maximum(probabilities.mean(0), 1e-300))
    return float(np.exp((probabilities * (logs - marginal)).sum(1).mean()))


def histogram(probabilities: np.ndarray) -> np.ndarray:
    """Return the share (classes,) of samples whose likeliest class is each one."""
    counts = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
    return counts / len(probabilities)


def missing_modes(shares: np.ndarray) -> list[int]:
    """Return the classes with less than a tenth of an even share."""
    return np.flatnonzero(shares < MISSING / len(shares)).tolist()


def divergence_from_uniform(shares: np.ndarray) -> float:
    """Return KL(shares || uniform) in nats: 0 to log(classes)."""
    taken = shares[shares > 0]
    return float((taken * np.log(taken * len(shares))).sum())


def places(asked: Sequence[str], judged: Sequence[str], counts: tuple[int, int]) -> Labels | None:
    """Return the classes of a classifier for each of a generator: by their names, where both have
    them, else by their numbers.

    `counts` are those of both.  None if not all of the generator's are among the classifier's.
    """
    if asked and judged:
        known = {name: place for place, name in enumerate(judged)}
        found = [known.get(name, -1) for name in asked]
    else:
        found = list(range(counts[0])) if counts[0] == counts[1] else [-1]
    return None if -1 in found else np.array(found)


def agreement(probabilities: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return, by class, the share of samples (N, K) that are judged to be of their label (N,).

    It is 0 for a class of which there is no sample.
    """
    right = probabilities.argmax(1) == labels
    classes = range(probabilities.shape[1])
    return [float(right[labels == c].mean()) if c in labels else 0.0 for c in classes]
