"""Means over cases and paired differences, with bootstrap intervals and a signed-rank test over patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from .surface import SCORES

ALL = "all structures"
SHAPE_SCORES = ("cd", "emd", "point_to_surface_mm", "volume_difference_percent")  # of rows that have them
OVERLAP_SCORES = ("precision", "recall", "volume_bias_percent")  # likewise
FLOOR = "_floor"  # ending of the column with a score's noise floor
HARM_DSC = 0.5  # points of DSC that a case must lose to count as harmed
RESAMPLES = 10_000
CONFIDENCE = 95.0

Row = Mapping[str, Any]
Statistic = Callable[[np.ndarray], np.ndarray]


def mean(sums: np.ndarray) -> np.ndarray:
    """Return the mean from sums (..., 2) of (value, count)."""
    return sums[..., 0] / sums[..., 1]


def relative_change(sums: np.ndarray) -> np.ndarray:
    """Return by how many per cent one mean exceeds another, from sums (..., 2) of (value, reference)."""
    return 100.0 * (sums[..., 0] / sums[..., 1] - 1.0)


def bootstrap(
    columns: np.ndarray,
    patients: Sequence[str],
    statistic: Statistic = mean,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Estimate a statistic of column sums with its percentile interval (95 %), resampling patients.

    Patients, not cases, are drawn with replacement, each with all its cases, because cases of one patient are not
    independent.

    Args:
        columns: (N, C), one row a case.
        patients: the patient of each case, N names.
        statistic: takes sums of the columns over cases, (..., C), to numbers (...,).
        resamples: how often to draw.
        seed: the same seed draws the same patients.

    Returns:
        The statistic, and its lower and upper bound; the bounds are NaN with fewer than two patients.
    """
    columns = np.asarray(columns, dtype=np.float64)
    if not len(columns):
        return float("nan"), float("nan"), float("nan")
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, index, columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(statistic(sums.sum(0)))
        if len(names) < 2:
            return estimate, float("nan"), float("nan")
        rng = np.random.default_rng(seed)
        times_drawn = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=resamples)
        drawn = statistic(times_drawn @ sums)
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return estimate, float("nan"), float("nan")
    tail = (100.0 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100.0 - tail])
    return estimate, float(low), float(high)


def signed_rank_p(changes: np.ndarray, patients: Sequence[str]) -> float:
    """Test whether paired changes are symmetric about 0: Wilcoxon's signed-rank test, two-sided.

    The changes of a patient's cases are averaged first, because cases of one patient are not independent.

    Args:
        changes: (N,), one a case.
        patients: the patient of each case, N names.

    Returns:
        The p value, not corrected for the number of tests; 1 where nothing changes, NaN with fewer than two patients.
    """
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) < 2:
        return float("nan")
    means = np.bincount(index, changes) / np.bincount(index)
    means = np.round(means, 9)  # changes that are equal but for rounding errors are ties
    return float(wilcoxon(means).pvalue) if means.any() else 1.0


def describe(values: np.ndarray) -> dict[str, float]:
    """Return count, mean, sample standard deviation and median of the values (N,) that are not NaN."""
    counted = np.asarray(values, dtype=np.float64)
    counted = counted[~np.isnan(counted)]
    nan = float("nan")
    return {
        "n": len(counted),
        "mean": float(counted.mean()) if len(counted) else nan,
        "sd": float(counted.std(ddof=1)) if len(counted) > 1 else nan,
        "median": float(np.median(counted)) if len(counted) else nan,
    }


def summarise(
    rows: Sequence[Row], reference: str = "initial", resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, Any]]:
    """Summarise scores for every structure (and all together), method and metric.

    Args:
        rows: one a case, structure and method, with `case`, `patient`, `structure`, `method`, `failed` and the scores
            (`dsc`, `nsd`, `hd95_mm`, `assd_mm`, and where there are `nsd_…mm`, `cd`, `emd`, `point_to_surface_mm`,
            `volume_difference_percent`, `precision`, `recall`, `volume_bias_percent`, and a score's `…_floor`).
        reference: the method the others are compared with, case by case.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Rows with `n mean sd median failed`, the mean noise `floor` of metrics that have one, for methods other than the
        reference `difference`, `relative_change` (of the means, in %) each with `_low` and `_high`, `p` of the
        signed-rank test, and for DSC `harmed_percent`, the share of case-structures that lose more than 0.5 points. NaN
        scores are not counted; a difference needs both.
    """
    structures = list(dict.fromkeys(row["structure"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    found = dict.fromkeys(key for row in rows for key in row)
    metrics = [
        *SCORES,
        *(k for k in found if k.startswith("nsd_")),
        *(k for k in (*SHAPE_SCORES, *OVERLAP_SCORES) if k in found),
    ]
    summary = []
    for structure in [*structures, *([ALL] if len(structures) > 1 else [])]:
        chosen = [row for row in rows if structure in (ALL, row["structure"])]
        by_method = {method: {_key(r): r for r in chosen if r["method"] == method} for method in methods}
        for method in methods:
            failed = sum(bool(row["failed"]) for row in by_method[method].values())
            for metric in metrics:
                values = np.array([row[metric] for row in by_method[method].values()], dtype=np.float64)
                line = {"structure": structure, "method": method, "metric": metric, **describe(values)}
                line["failed"] = failed
                if metric + FLOOR in found:
                    floors = np.array([row[metric + FLOOR] for row in by_method[method].values()], dtype=np.float64)
                    line["floor"] = describe(floors)["mean"]
                if method != reference and reference in by_method:
                    line |= _compare(by_method[method], by_method[reference], metric, resamples, seed)
                summary.append(line)
    return summary


def _key(row: Row) -> tuple[str, str]:
    return str(row["case"]), str(row["structure"])


def _compare(
    ours: Mapping[tuple[str, str], Row], theirs: Mapping[tuple[str, str], Row], metric: str, resamples: int, seed: int
) -> dict[str, float]:
    pairs = [(row[metric], theirs[key][metric], row["patient"]) for key, row in ours.items() if key in theirs]
    pairs = [pair for pair in pairs if not np.isnan(pair[0]) and not np.isnan(pair[1])]
    values = np.array([pair[:2] for pair in pairs], dtype=np.float64).reshape(-1, 2)
    patients = [pair[2] for pair in pairs]
    change = values[:, 0] - values[:, 1]
    result: dict[str, float] = {}
    for name, columns, statistic in (
        ("difference", np.stack([change, np.ones_like(change)], -1), mean),
        ("relative_change", values, relative_change),
    ):
        estimates = bootstrap(columns, patients, statistic, resamples, seed)
        result |= dict(zip((name, f"{name}_low", f"{name}_high"), estimates, strict=True))
    result["p"] = signed_rank_p(change, patients)
    if metric == "dsc":
        result["harmed_percent"] = 100.0 * float(np.mean(change < -HARM_DSC)) if len(change) else float("nan")
    return result
