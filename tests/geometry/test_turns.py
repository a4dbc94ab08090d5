"""Turns: axes in another order or reversed are told, and nothing else is."""

import numpy as np
import pytest

from scripts.geometry.picct import PICCT, CanonicalTransform, normalise
from scripts.geometry.turns import better_turned
from tests.helpers.bean import bean, world

TURNS = {  # what a lost orientation does to world axes
    "turned by 180°": np.diag([-1.0, -1.0, 1.0]),
    "turned by 90°": np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    "turned by 120°": np.eye(3)[[1, 2, 0]],
    "mirrored": np.diag([-1.0, 1.0, 1.0]),
}


def boot(seed):
    """A bean bent to one side and up at one end: with its axes turned it is another shape."""
    points = bean(1000, seed)
    x = points[:, 0]
    return points + np.stack([0.0 * x, 0.015 * x**2, 0.7 * np.maximum(x, 0.0)], axis=1)


def boot_picct(**options):
    anchor = boot(seed=1)
    to_canonical = normalise(anchor)
    return PICCT(to_canonical.apply(anchor), 1.0 / to_canonical.scale, n_points=300, **options)


@pytest.mark.parametrize("words", TURNS)
@pytest.mark.parametrize("degrees", [0, 15])
def test_axes_in_another_order_or_reversed_are_told(words, degrees):
    """The header is wrong by what is told, the other way round."""
    aligner, points = boot_picct(), world(degrees).apply(boot(seed=2)) @ TURNS[words].T
    assert words in better_turned(aligner, points, aligner(points))


@pytest.mark.parametrize("degrees", [0, 15, 25])
def test_a_case_that_stands_as_the_anchor_does_is_not_turned(degrees):
    aligner, points = boot_picct(), world(degrees).apply(boot(seed=2))
    broken = points[points[:, 0] < np.quantile(points[:, 0], 0.7)]
    for part in (points, broken):
        assert better_turned(aligner, part, aligner(part)) == ""


def test_the_other_side_of_a_paired_organ_is_no_turn():
    aligner, points = boot_picct(mirror="auto"), boot(seed=2) * [-1.0, 1.0, 1.0]
    assert aligner(points).mirrored and better_turned(aligner, points, aligner(points)) == ""


def test_turns_are_found_for_alignments_that_failed_but_not_for_too_few_points():
    aligner, points = boot_picct(), boot(seed=2) @ TURNS["turned by 90°"].T
    failed = CanonicalTransform(aligner(points).similarity, 0.0, False, False, 0.0, "no match")
    assert better_turned(aligner, points, failed) == "turned by 90°"
    assert better_turned(aligner, points[:5], failed) == ""
