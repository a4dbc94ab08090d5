"""Bootstrap intervals and summaries with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from scripts.metrics.statistics import ALL, bootstrap, describe, relative_change, signed_rank_p, summarise


def columns(values) -> np.ndarray:
    return np.stack([np.asarray(values, float), np.ones(len(values))], -1)


def test_bootstrap_is_reproducible_and_depends_on_the_seed():
    values = columns(np.random.default_rng(0).normal(size=20))
    names = [str(i) for i in range(20)]
    assert bootstrap(values, names, seed=1) == bootstrap(values, names, seed=1)
    assert bootstrap(values, names, seed=1) != bootstrap(values, names, seed=2)


def test_bootstrap_equals_scipy_on_independent_cases():
    data = np.random.default_rng(1).gamma(2.0, size=25)
    estimate, low, high = bootstrap(columns(data), [str(i) for i in range(25)], resamples=10_000)
    reference = stats.bootstrap((data,), np.mean, n_resamples=10_000, method="percentile", rng=2).confidence_interval
    assert estimate == pytest.approx(data.mean())
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.03)


def test_bootstrap_equals_drawing_patients_one_by_one():
    data = np.array([1.0, 2.0, 10.0, 11.0, 12.0, 3.0])
    patients = ["a", "a", "b", "b", "b", "c"]
    _, low, high = bootstrap(columns(data), patients, resamples=20_000)
    groups = [data[:2], data[2:5], data[5:]]
    means = [np.concatenate([groups[i], groups[j], groups[k]]).mean() for i, j, k in np.ndindex(3, 3, 3)]
    expected = np.percentile(means, [2.5, 97.5], method="inverted_cdf")
    assert (low, high) == pytest.approx(tuple(expected))


def test_cases_of_one_patient_widen_the_interval():
    data = np.repeat(np.random.default_rng(3).normal(size=8), 5)
    clustered = bootstrap(columns(data), np.repeat(list("abcdefgh"), 5).tolist())
    independent = bootstrap(columns(data), [str(i) for i in range(40)])
    assert clustered[0] == pytest.approx(independent[0])
    assert clustered[2] - clustered[1] > 1.5 * (independent[2] - independent[1])


def test_bootstrap_of_few_or_none():
    assert all(math.isnan(v) for v in bootstrap(np.zeros((0, 2)), []))
    estimate, low, high = bootstrap(columns([3, 5]), ["a", "a"])
    assert estimate == 4 and math.isnan(low) and math.isnan(high)
    assert bootstrap(columns([2, 2, 2]), list("abc")) == (2, 2, 2)


def test_relative_change_is_of_the_means():
    values = np.array([[1.0, 2.0], [5.0, 10.0]])
    assert bootstrap(values, ["a", "b"], relative_change) == pytest.approx((-50, -50, -50))


def test_describe_counts_only_numbers():
    assert describe(np.array([1.0, 3.0, np.nan])) == {"n": 2, "mean": 2, "sd": pytest.approx(math.sqrt(2)), "median": 2}
    alone = describe(np.array([4.0]))
    assert alone["n"] == 1 and math.isnan(alone["sd"])
    assert math.isnan(describe(np.array([np.nan]))["mean"])


def test_signed_rank_equals_scipy_and_the_exact_count():
    changes = np.random.default_rng(4).normal(0.3, 1.0, 30)
    names = [str(i) for i in range(30)]
    assert signed_rank_p(changes, names) == pytest.approx(stats.wilcoxon(changes).pvalue)
    assert signed_rank_p(np.array([1.0, 2, 3, 4, 5, 6]), list("abcdef")) == pytest.approx(2 / 2**6)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)  # ranks 1 to 5, of which 1 is negative
    sums = (np.arange(1, 6)[:, None] * (signs > 0)).sum(0)
    exact = 2 * np.mean(sums >= 2 + 3 + 4 + 5)
    assert signed_rank_p(np.array([-1.0, 2, 3, 4, 5]), list("abcde")) == pytest.approx(exact)


def test_signed_rank_counts_patients_not_cases():
    changes, patients = np.array([1.0, 3, 5, 1, 2, 4, 7, 8]), list("aabbccdd")
    assert signed_rank_p(changes, patients) == pytest.approx(2 / 2**4)
    assert signed_rank_p(np.array([1.0, -1, 2, -2]), list("aabb")) == 1  # their cases cancel
    assert signed_rank_p(np.zeros(3), list("abc")) == 1
    assert math.isnan(signed_rank_p(np.zeros(0), []))


def row(case, structure, method, dsc, hd95=10.0, failed=False, patient=None) -> dict:
    scores = {"dsc": dsc, "nsd": dsc, "nsd_3mm": dsc, "hd95_mm": hd95, "assd_mm": hd95 / 5, "failed": failed}
    return {"case": case, "patient": patient or case, "structure": structure, "method": method, **scores}


def test_summary():
    rows = [
        row("a", "heart", "initial", 80, 10),
        row("a", "heart", "ours", 82, 5),
        row("b", "heart", "initial", 90, 10),
        row("b", "heart", "ours", 89.4, 7),
        row("c", "heart", "initial", math.nan, math.nan),
        row("c", "heart", "ours", 0, 300, failed=True),
        row("a", "aorta", "initial", 70),
        row("a", "aorta", "ours", 69.6),
    ]
    lines = {(s["structure"], s["method"], s["metric"]): s for s in summarise(rows, resamples=500)}
    heart = lines["heart", "ours", "dsc"]
    assert (heart["n"], heart["failed"], heart["median"]) == (3, 1, 82)
    assert heart["difference"] == pytest.approx(0.7)
    assert heart["difference_low"] == pytest.approx(-0.6) and heart["difference_high"] == pytest.approx(2)
    assert heart["harmed_percent"] == 50
    assert lines["heart", "ours", "hd95_mm"]["relative_change"] == pytest.approx(-40)
    assert "difference" not in lines["heart", "initial", "dsc"]
    assert lines["heart", "initial", "dsc"]["n"] == 2
    everything = lines[ALL, "ours", "dsc"]
    assert everything["n"] == 4
    assert everything["difference"] == pytest.approx((2 - 0.6 - 0.4) / 3)
    assert everything["harmed_percent"] == pytest.approx(100 / 3)
    assert lines["aorta", "ours", "nsd_3mm"]["mean"] == 69.6


def test_summary_of_shape_metrics_has_floors():
    rows = [
        row("a", "heart", "initial", 80) | {"cd": 3.0, "cd_floor": 0.1, "point_to_surface_mm": 2.0},
        row("b", "heart", "initial", 80) | {"cd": math.nan, "cd_floor": math.nan, "point_to_surface_mm": 3.0},
        row("c", "heart", "initial", 80) | {"cd": 5.0, "cd_floor": 0.2, "point_to_surface_mm": 4.0},
    ]
    lines = {line["metric"]: line for line in summarise(rows, resamples=10)}
    assert (lines["cd"]["n"], lines["cd"]["mean"], lines["cd"]["median"]) == (2, 4.0, 4.0)
    assert lines["cd"]["floor"] == pytest.approx(0.15)
    assert "floor" not in lines["point_to_surface_mm"] and "cd_floor" not in lines


def test_summary_without_the_reference():
    lines = summarise([row("a", "heart", "ours", 80)], resamples=10)
    assert {line["structure"] for line in lines} == {"heart"}
    assert all("difference" not in line for line in lines)
