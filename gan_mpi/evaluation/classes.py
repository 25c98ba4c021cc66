"""Figures from a classifier's probabilities: the score, the histogram, the missing modes."""

import numpy as np

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


def agreement(probabilities: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return, by class, the share of samples (N, K) that are judged to be of their label (N,).

    It is 0 for a class of which there is no sample.
    """
    right = probabilities.argmax(1) == labels
    classes = range(probabilities.shape[1])
    return [float(right[labels == c].mean()) if c in labels else 0.0 for c in classes]
