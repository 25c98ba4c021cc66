"""Figures from a classifier's probabilities: the score, the histogram, the missing modes."""

from collections.abc import Sequence

import numpy as np

MISSING = 0.1  # of the share that real images have: a class with less is missing


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


def missing_modes(shares: np.ndarray, real: np.ndarray) -> list[int]:
    """Return the classes with less than a tenth of the share of real images; both (classes,)."""
    return np.flatnonzero(shares < MISSING * real).tolist()


def divergence_from_uniform(shares: np.ndarray) -> float:
    """Return KL(shares || uniform) in nats: 0 to log(classes)."""
    taken = shares[shares > 0]
    return float((taken * np.log(taken * len(shares))).sum())


def places(
    label_counts: Sequence[int], asked: Sequence[str], judged: Sequence[str], classes: int
) -> np.ndarray | None:
    """Return the class of a classifier for each of a generator: by their names, where both have
    them, else by their numbers; -1 for one that is not drawn.

    `label_counts` are those of the generator's data, by class, and `classes` how many the
    classifier has.  None if not all that are drawn are among the classifier's.
    """
    if asked and judged:
        known = {name: place for place, name in enumerate(judged)}
        found = [known.get(name, -1) for name in asked]
    else:
        found = list(range(classes)) + [-1] * len(label_counts)
    drawn = [place for place, count in zip(found, label_counts, strict=False) if count]
    return None if -1 in drawn else np.array(found[: len(label_counts)])


def agreement(probabilities: np.ndarray, labels: np.ndarray) -> list[float | None]:
    """Return, by class, the share of samples (N, K) that are judged to be of their label (N,).

    It is None for a class of which there is no sample.
    """
    right = probabilities.argmax(1) == labels
    classes = range(probabilities.shape[1])
    return [float(right[labels == c].mean()) if c in labels else None for c in classes]
