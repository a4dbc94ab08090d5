"""What a fit is to explain: surface, shells and free space, and what the last is for."""

from dataclasses import replace

import numpy as np
import pytest

from scripts.geometry.resample import WorldGrid
from scripts.refine.chain import Refiner
from scripts.refine.fit_points import SHELL_MM, SHELL_TRUST, FitPoints
from scripts.refine.stages import Fitted, TrustedSamples
from tests.helpers.mean_shape import mean_shape

RADIUS_MM = 30.0


def _ball(count=800):
    height, turn = 1.0 - (2.0 * np.arange(count) + 1.0) / count, np.pi * (1.0 + 5.0**0.5) * np.arange(count)
    flat = np.sqrt(1.0 - height**2)
    directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)  # evenly spread
    trust = np.linspace(0.2, 1.0, count)
    return TrustedSamples(RADIUS_MM * directions, directions, trust, trust)


def test_each_point_has_the_signed_distance_of_the_shape():
    known = FitPoints.of(_ball())
    truth = np.linalg.norm(known.points_world, axis=1) - RADIUS_MM
    trusted = known.trust > 0
    np.testing.assert_allclose(known.targets_mm[trusted], truth[trusted], atol=0.5)
    for inside in (False, True):
        assert (trusted & ((truth < 0) == inside) & (np.abs(truth) > 2 * SHELL_MM)).sum() > 30


def test_free_points_near_the_surface_have_no_say():
    known = FitPoints.of(_ball())
    free = (known.targets_mm != 0.0) & (np.abs(known.targets_mm) != SHELL_MM)
    near = free & (np.abs(known.targets_mm) < 4.0)
    assert near.sum() > 10 and not (known.trust[near] > 0).any()


def test_each_point_has_the_say_of_its_surface_sample():
    samples = _ball()
    known = FitPoints.of(samples)
    for target, share in ((0.0, 1.0), (SHELL_MM, SHELL_TRUST), (-SHELL_MM, SHELL_TRUST)):
        own = known.targets_mm == target
        assert own.sum() >= len(samples.trust) // 4
        np.testing.assert_allclose(known.trust[own], share * samples.trust[known.sample[own]])
    agreement = np.random.default_rng(1).uniform(size=len(samples.trust))
    np.testing.assert_allclose(known.weighed(agreement).trust, known.trust * agreement[known.sample])


def test_points_move_with_the_samples_also_under_a_reflection():
    samples, flip = _ball(), np.array([-1.0, 1.0, 1.0])
    other = FitPoints.of(
        replace(samples, points_world=samples.points_world * flip, normals_world=samples.normals_world * flip)
    )
    known = FitPoints.of(samples)
    np.testing.assert_allclose(other.points_world, known.points_world * flip)
    np.testing.assert_allclose(other.targets_mm, known.targets_mm)


def test_nothing_is_known_beyond_the_grid():
    spacing, shape = 2.0, (40, 40, 20)  # it ends at the middle of the ball
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -40.0
    known = FitPoints.of(replace(_ball(), grid=WorldGrid(affine, shape)))
    free = np.arange(len(known.trust)) >= len(known.trust) * 3 // 4
    beyond = known.points_world[:, 2] > 0.0
    assert (free & beyond).sum() > 50 and not known.trust[free & beyond].any()
    assert known.trust[free & ~beyond].any() and known.trust[~free & beyond].all()


def test_a_missing_end_comes_back():
    """A quarter of the length is cut off: free space says that nothing is there, and must not be believed."""
    labels, affine = mean_shape("plain")
    along = WorldGrid(affine, labels.shape).points_world()[..., 1]
    inside = along[labels > 0]
    cut = np.where(along > np.quantile(inside, 0.85), 0, labels)
    refiner = Refiner("hippocampus")
    after, _ = refiner.refine(cut, affine)

    def dice(one):
        return 2.0 * ((one > 0) & (labels > 0)).sum() / ((one > 0).sum() + (labels > 0).sum())

    assert dice(after) > dice(cut) + 0.015


@pytest.mark.parametrize("shape", ["box", "bumps"])
def test_a_fit_to_a_strange_shape_does_not_grow_beyond_it(shape):
    """No kidney looks like these; without free space the fit grew to two or three times their volume."""
    size_mm, n = 36.0, 64
    spacing = 4.0 * size_mm / n
    offset = (np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1) - n / 2) * spacing
    bumps = 1.0 + 0.35 * np.prod(np.sin(4.0 * offset / size_mm), axis=-1)
    mask = {
        "box": (np.abs(offset) < 0.8 * size_mm).all(-1),
        "bumps": np.linalg.norm(offset, axis=-1) < size_mm * bumps,
    }[shape]
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [60.0 - n / 2 * spacing, -n / 2 * spacing, -n / 2 * spacing]
    refiner = Refiner("kidneys")
    label_map = mask.astype(np.uint8)
    fitted = refiner.fit(refiner.sample(refiner.align(label_map, affine), label_map, affine))
    (one,) = (one for one in fitted if isinstance(one, Fitted))
    points = offset.reshape(-1, 3) + affine[:3, 3] + n / 2 * spacing
    for signed_mm in (one.fit.sdf_mm, one.fit.linear_mm):
        assert signed_mm is not None
        assert (signed_mm(points) < 0).sum() < 1.5 * mask.sum()
