"""Fits as proposals: what a gate that knew the truth takes of them."""

import numpy as np
import pytest

from scripts.refine.chain import Refiner
from scripts.refine.stages import CODES, LINEAR, TUNED
from scripts.validation.proposals import MAJORITY, dsc, mostly_wrong, score_proposals
from tests.helpers.mean_shape import damaged, mean_shape
from tests.helpers.volumes import AFFINES


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_regions_of_which_most_is_wrong_are_found(affine):
    truth = np.zeros((12, 12, 12), bool)
    truth[2:7, 2:7, 2:7] = True
    initial = truth.copy()
    initial[2:4, 2:4, 2:4] = False  # missing
    initial[9:11, 9:11, 9:11] = True  # an island
    proposal = truth.copy()
    proposal[7:8, 4:7, 4:7] = True  # a wrong addition
    proposal[2:4, 2:4, 1:2] = True  # the right one goes a little too far
    proposal[5:7, 5:7, 2:4] = False  # a wrong removal
    expected = np.zeros_like(truth)
    expected[7:8, 4:7, 4:7] = expected[5:7, 5:7, 2:4] = True
    np.testing.assert_array_equal(mostly_wrong(initial, proposal, truth, affine), expected)
    assert not mostly_wrong(initial, initial, truth, affine).any()


def test_every_fit_is_scored_alone_and_as_a_proposal():
    refiner = Refiner("hippocampus")
    truth, affine = mean_shape("oblique")
    broken = damaged(truth, affine)
    (fitted,) = refiner.fit(refiner.sample(refiner.align(broken, affine), broken, affine))
    scores = score_proposals(fitted, refiner.steps["hippocampus"].reconstruction, truth > 0)
    names = (LINEAR, CODES, TUNED, MAJORITY)
    assert set(scores) == {f"{what}_{name}" for what in ("dsc", "gate") for name in names}
    before = dsc(broken > 0, truth > 0)
    assert all(90 < scores[f"dsc_{name}"] < 100 for name in names)  # the prior's own shape
    assert all(before + 3 < scores[f"gate_{name}"] <= 100 for name in names)
