"""Lengths follow from the size of a prior's shape, up to a most."""

from dataclasses import asdict, replace

import pytest

from scripts.organ.pack import OrganPack
from scripts.prior.prior import ShapePrior
from scripts.refine.lengths import Lengths

MOST = {"tau_mm": 2.5, "reach_mm": 4.0, "min_region_mm3": 30.0}


@pytest.fixture(scope="module")
def prior() -> ShapePrior:
    return ShapePrior.load(OrganPack.load("hippocampus").structures[0].prior)


@pytest.mark.parametrize("scale_mm", [4.0, 12.0, 40.0])
def test_lengths_of_small_shapes_are_shares_of_their_radius(prior, scale_mm):
    one, double = (Lengths.of(replace(prior, scale_mm=size)) for size in (scale_mm / 2, scale_mm))
    assert double.tau_mm == pytest.approx(2 * one.tau_mm)
    assert double.reach_mm == pytest.approx(2 * one.reach_mm)
    assert double.min_region_mm3 == pytest.approx(8 * one.min_region_mm3)
    assert one.tau_mm < one.reach_mm < one.long_mm
    assert double.long_mm == pytest.approx(2 * one.long_mm, abs=0.11)  # it is rounded


@pytest.mark.parametrize("scale_mm", [100.0, 200.0])
def test_lengths_of_large_shapes_are_the_same(prior, scale_mm):
    found = asdict(Lengths.of(replace(prior, scale_mm=scale_mm)))
    assert found.pop("long_mm") == pytest.approx(scale_mm / prior.scale_mm * Lengths.of(prior).long_mm, rel=0.01)
    assert found == MOST


def test_lengths_of_the_hippocampus_are_about_a_millimetre(prior):
    found = Lengths.of(prior)
    assert found.tau_mm == pytest.approx(1.0, abs=0.05)
    assert found.reach_mm == pytest.approx(2.5, abs=0.1) and found.min_region_mm3 == pytest.approx(8.0, abs=0.1)
    assert 40.0 < found.long_mm < 55.0
