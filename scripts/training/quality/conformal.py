"""How wide an interval must be: split conformal prediction over patients.

A score says how far a mask's truth lies from its prediction, in predicted spreads. For a new patient's mask the score
is, with the promised probability, at most the quantile of known ones. Several masks of one patient are not independent:
each patient counts once, whatever number of masks there are (Dunn, Wasserman and Ramdas 2022, "pooling CDFs").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def width(scores: np.ndarray, patients: Sequence[str], promise: float, groups: Sequence[str] | None = None) -> float:
    """Return the half width of the interval, in spreads, that holds a new patient's mask with the promised probability.

    Args:
        scores: (N,) of the known masks.
        patients: (N,) whose each is.
        promise: the probability, below 1.
        groups: (N,) of patients that shall count alike together, such as those of an organ; None for each by itself.

    Raises:
        ValueError: there are too few patients to promise that.
    """
    names, index, counts = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    least = least_patients(promise)
    if len(names) < least:
        raise ValueError(
            f"{len(names)} patients cannot carry an interval of {100 * promise:g} %: it takes at least {least}"
        )
    share = np.ones(len(names))
    if groups is not None:
        of = np.empty(len(names), object)
        of[index] = np.asarray(groups)
        sizes = {group: np.count_nonzero(of == group) for group in set(of)}
        share = np.array([len(names) / len(sizes) / sizes[group] for group in of])
    weights = share[index] / counts[index] / (len(names) + 1)  # what is left, one patient's share, is the new one's
    order = np.argsort(scores)
    reached = np.cumsum(weights[order])
    return float(scores[order][np.searchsorted(reached, promise - 1e-12)])


def least_patients(promise: float) -> int:
    """Return how many patients it takes to promise an interval with that probability."""
    return math.ceil(promise / (1.0 - promise) - 1e-9)
