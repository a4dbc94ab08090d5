"""How wide an interval must be: split conformal prediction over patients.

A score says how far a mask's truth lies from its prediction, in predicted spreads. For a new patient's mask the score
is, with the promised probability, at most the quantile of known ones. Several masks of one patient are not independent:
each patient counts once, whatever number of masks there are (Dunn, Wasserman and Ramdas 2022, "pooling CDFs").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def width(scores: np.ndarray, patients: Sequence[str], promise: float) -> float:
    """Return the half width of the interval, in spreads, that holds a new patient's mask with the promised probability.

    Args:
        scores: (N,) of the known masks.
        patients: (N,) whose each is.
        promise: the probability, below 1.

    Raises:
        ValueError: there are too few patients to promise that.
    """
    names, index, counts = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    least = least_patients(promise)
    if len(names) < least:
        raise ValueError(
            f"{len(names)} patients cannot carry an interval of {100 * promise:g} %: it takes at least {least}"
        )
    weights = 1.0 / counts[index] / (len(names) + 1)  # what is left, one patient's share, is the new one's
    order = np.argsort(scores)
    reached = np.cumsum(weights[order])
    return float(scores[order][np.searchsorted(reached, promise - 1e-12)])


def least_patients(promise: float) -> int:
    """Return how many patients it takes to promise an interval with that probability."""
    return math.ceil(promise / (1.0 - promise) - 1e-9)
