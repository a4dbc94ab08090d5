"""Alignment to the mean, with known poses."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scripts.geometry.procrustes import procrustes

SHAPE = np.random.default_rng(0).normal(size=(60, 3)) * (4.0, 7.0, 2.0)
EVEN = np.full(60, 1 / 60)


def posed(scales) -> np.ndarray:
    """The same shape in other sizes, turned and moved."""
    turns = Rotation.random(len(scales), random_state=1)
    return np.stack(
        [s * turn.apply(SHAPE) + (30 * n, -9, 5) for n, (s, turn) in enumerate(zip(scales, turns, strict=True))]
    )


def test_one_shape_in_several_poses_falls_upon_itself():
    shapes = posed([1.0, 1.0, 1.0])
    aligned, mean = procrustes(shapes, SHAPE, EVEN, np.ones((3, 60), bool))
    np.testing.assert_allclose(aligned, np.broadcast_to(SHAPE, aligned.shape), atol=1e-6)
    np.testing.assert_allclose(mean, SHAPE, atol=1e-6)


@pytest.mark.parametrize("remove_size", [False, True])
def test_size_stays_unless_it_is_to_go(remove_size):
    scales = np.array([0.8, 1.0, 1.2])
    aligned, mean = procrustes(posed(scales), SHAPE, EVEN, np.ones((3, 60), bool), remove_size)
    sizes = [np.linalg.norm(one - one.mean(axis=0)) for one in (*aligned, SHAPE)]
    expected = np.ones(3) if remove_size else scales
    np.testing.assert_allclose(np.array(sizes[:3]) / sizes[3], expected, rtol=1e-6)
    np.testing.assert_allclose(mean - mean.mean(axis=0), SHAPE - SHAPE.mean(axis=0), atol=1e-5)


def test_a_shape_that_lacks_its_ends_is_scaled_as_if_it_had_them():
    shapes, known = posed([0.8, 1.0, 1.2, 1.2]), np.ones((4, 60), bool)
    known[3] = np.abs(SHAPE[:, 1]) < np.median(np.abs(SHAPE[:, 1]))
    aligned, mean = procrustes(shapes, SHAPE, EVEN, known, remove_size=True)
    for one, there in zip(aligned, known, strict=True):
        np.testing.assert_allclose(one[there], mean[there], atol=1e-4)
    assert np.linalg.norm(mean - mean.mean(axis=0)) / np.linalg.norm(SHAPE - SHAPE.mean(axis=0)) == pytest.approx(1.05)


def test_landmarks_that_a_shape_lacks_turn_neither_it_nor_the_mean():
    shapes, known = posed([1.0, 1.0]), np.ones((2, 60), bool)
    shapes[1, :5] += 500.0
    known[1, :5] = False
    aligned, mean = procrustes(shapes, SHAPE, EVEN, known)
    np.testing.assert_allclose(aligned[0], SHAPE, atol=1e-6)
    np.testing.assert_allclose(aligned[1, 5:], SHAPE[5:], atol=1e-6)
    np.testing.assert_allclose(mean, SHAPE, atol=1e-6)


def test_a_landmark_that_no_shape_has_stays_where_it_was():
    known = np.ones((2, 60), bool)
    known[:, 7] = False
    _, mean = procrustes(posed([1.0, 1.0]), SHAPE, EVEN, known)
    np.testing.assert_allclose(mean[7], SHAPE[7])


def test_hands_are_not_exchanged():
    shapes = np.stack([SHAPE, SHAPE * (-1.0, 1.0, 1.0)])
    aligned, _ = procrustes(shapes, SHAPE, EVEN, np.ones((2, 60), bool))
    assert np.abs(aligned[0] - aligned[1]).max() > 1.0
