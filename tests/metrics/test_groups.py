"""Two groups compared at many places: against independent formulas, and where there is nothing to compare."""

import numpy as np
import pytest
from scipy import stats

from scripts.metrics.groups import compare_groups

RNG = np.random.default_rng(0)


def test_t_is_welch_s_of_each_place():
    first, second = RNG.normal(0.5, 1.0, (9, 4)), RNG.normal(0.0, 3.0, (14, 4))
    found = compare_groups(first, second)
    error = np.sqrt(first.var(axis=0, ddof=1) / 9 + second.var(axis=0, ddof=1) / 14)
    np.testing.assert_allclose(found.t, (first.mean(axis=0) - second.mean(axis=0)) / error)
    np.testing.assert_allclose(found.difference, first.mean(axis=0) - second.mean(axis=0))


def test_pairs_are_compared_by_their_differences():
    base = RNG.normal(0.0, 50.0, (12, 3))
    change = RNG.normal([0.0, 1.0, 5.0], 1.0, (12, 3))
    found = compare_groups(base + change, base, paired=True)
    expected = stats.ttest_1samp(change, 0.0)
    np.testing.assert_allclose(found.t, expected.statistic, rtol=1e-6)
    assert found.p[2] < 1e-6 < compare_groups(base + change, base).p[2]


def test_the_false_discovery_rate_is_benjamini_and_hochberg_s():
    found = compare_groups(RNG.normal(size=(8, 50)), RNG.normal(size=(8, 50)))
    order = np.argsort(found.p)
    steps = found.p[order] * 50 / np.arange(1, 51)
    expected = np.minimum.accumulate(steps[::-1])[::-1].clip(0, 1)
    np.testing.assert_allclose(found.q[order], expected)


def test_of_groups_that_do_not_differ_hardly_a_place_is_marked():
    marked = [
        bool((compare_groups(RNG.normal(size=(10, 200)), RNG.normal(size=(10, 200))).q < 0.05).any()) for _ in range(40)
    ]
    assert np.mean(marked) < 0.2


@pytest.mark.parametrize("paired", [False, True])
def test_places_without_two_values_a_group_or_any_spread_are_unknown(paired):
    first, second = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4))
    first[1:, 0] = np.nan
    second[:, 1] = np.nan
    first[:, 2] = second[:, 2] = 1.0
    found = compare_groups(first, second, paired)
    for values in (found.t, found.p, found.q):
        assert np.isnan(values[:3]).all() and np.isfinite(values[3])


def test_values_that_are_missing_are_left_out():
    first, second = RNG.normal(size=(6, 1)), RNG.normal(size=(7, 1))
    more = np.concatenate([first, [[np.nan]]])
    np.testing.assert_allclose(compare_groups(more, second).t, compare_groups(first, second).t)
