"""Two groups compared at many places at once: t values, and what is left of them after so many tests."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Array = np.ndarray[Any, np.dtype[Any]]

LEAST = 2  # values of a group


@dataclass(frozen=True)
class Comparison:
    """Two groups at N places.

    Attributes:
        difference: (N,) mean of the first group less that of the second; NaN where one has no value.
        t: (N,) the difference over its standard error; NaN, as p and q, where a group has fewer than two values, or all
            values are the same.
        p: (N,) two-sided, of each place by itself.
        q: (N,) the false discovery rate (Benjamini and Hochberg) at which the place counts: of all places with q below
            5 %, at most some 5 % are there by chance.
    """

    difference: Array
    t: Array
    p: Array
    q: Array


def compare_groups(first: Array, second: Array, paired: bool = False) -> Comparison:
    """Compare two groups, place by place.

    Args:
        first: (A, N) values, NaN where a case has none.
        second: (B, N) likewise.
        paired: whether the rows of the two are of the same cases, in the same order: Student's t of the differences.
            Otherwise the cases are taken for independent ones: Welch's t.
    """
    first, second = (np.asarray(group, float) for group in (first, second))
    if paired:
        there = ~np.isnan(first) & ~np.isnan(second)
        first, second = np.where(there, first, np.nan), np.where(there, second, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of places where there is nothing to compare
        if paired:
            found = stats.ttest_rel(first, second, nan_policy="omit")
        else:
            found = stats.ttest_ind(first, second, equal_var=False, nan_policy="omit")
        difference = np.nanmean(first, axis=0) - np.nanmean(second, axis=0)
    few = np.minimum((~np.isnan(first)).sum(axis=0), (~np.isnan(second)).sum(axis=0)) < LEAST
    t, p = _known(found.statistic, few), _known(found.pvalue, few)
    q = np.full_like(p, np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        q[tested] = stats.false_discovery_control(p[tested], method="bh")
    return Comparison(difference, t, p, q)


def _known(values: Any, few: Array) -> Array:
    """Return scipy's numbers, which may be masked, as (N,); NaN where there are too few values, or it has no number."""
    plain: Array = np.ma.filled(np.ma.asarray(values, float), np.nan).reshape(-1)
    return np.where(few | ~np.isfinite(plain), np.nan, plain)
