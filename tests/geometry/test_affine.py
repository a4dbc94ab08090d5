"""Affines and similarities: checks, closed forms, round trips."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from scripts.geometry.affine import Similarity, apply_affine, check_affine, rotation_angle_deg, spacing_mm


@st.composite
def similarities(draw):
    quaternion = draw(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
    rotation = Rotation.from_quat(quaternion).as_matrix()
    if draw(st.booleans()):
        rotation = rotation @ np.diag([-1.0, 1.0, 1.0])
    translation = draw(st.lists(st.floats(-500, 500), min_size=3, max_size=3))
    return Similarity(draw(st.floats(1e-3, 1e2)), rotation, np.array(translation))


POINTS = np.random.default_rng(0).normal(scale=50.0, size=(20, 3))


def test_check_affine_accepts_lists_and_copies():
    affine = np.eye(4)
    checked = check_affine(affine.tolist())
    assert checked.dtype == np.float64
    check_affine(affine)[0, 0] = 7
    assert affine[0, 0] == 1


@pytest.mark.parametrize(
    "bad",
    [
        np.eye(3),
        np.zeros((4, 4)),
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.diag([1.0, np.nan, 1.0, 1.0]),
        np.diag([1.0, np.inf, 1.0, 1.0]),
        np.diag([1.0, 1.0, 1.0, 2.0]),
        np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    ],
)
def test_check_affine_refuses(bad):
    with pytest.raises(ValueError):
        check_affine(bad)


def test_tiny_voxels_are_not_singular():
    check_affine(np.diag([1e-3, 1e-3, 1e-3, 1.0]))


def test_apply_affine_and_spacing_match_nibabel(frame):
    np.testing.assert_allclose(apply_affine(frame, POINTS), nib.affines.apply_affine(frame, POINTS))
    np.testing.assert_allclose(spacing_mm(frame), nib.affines.voxel_sizes(frame))


@pytest.mark.parametrize("degrees", [0.0, 1e-5, 12.0, 90.0, 179.0])
def test_rotation_angle(degrees):
    matrix = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
    assert rotation_angle_deg(matrix) == pytest.approx(degrees, abs=1e-9)


@given(similarities())
def test_similarity_round_trip(similarity):
    back = similarity.inverse().apply(similarity.apply(POINTS))
    np.testing.assert_allclose(back, POINTS, atol=1e-6)
    np.testing.assert_allclose(similarity.inverse().inverse().as_matrix(), similarity.as_matrix(), atol=1e-6)


@given(similarities(), similarities())
def test_similarity_composes_like_matrices(first, second):
    both = second.compose(first)
    np.testing.assert_allclose(both.apply(POINTS), second.apply(first.apply(POINTS)), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(both.as_matrix(), second.as_matrix() @ first.as_matrix(), rtol=1e-9, atol=1e-6)
    assert both.mirrored == (first.mirrored != second.mirrored)


@given(similarities())
def test_similarity_scales_distances_and_keeps_directions(similarity):
    moved = similarity.apply(POINTS)
    np.testing.assert_allclose(
        np.linalg.norm(moved[1:] - moved[0], axis=1),
        similarity.scale * np.linalg.norm(POINTS[1:] - POINTS[0], axis=1),
        rtol=1e-6,
    )
    normals = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(similarity.apply_directions(normals), axis=1), 1.0)


def test_identity():
    identity = Similarity.identity()
    np.testing.assert_array_equal(identity.apply(POINTS), POINTS)
    np.testing.assert_array_equal(identity.as_matrix(), np.eye(4))
    assert not identity.mirrored


@pytest.mark.parametrize(
    "parts",
    [
        (0.0, np.eye(3), np.zeros(3)),
        (-1.0, np.eye(3), np.zeros(3)),
        (np.nan, np.eye(3), np.zeros(3)),
        (1.0, 2 * np.eye(3), np.zeros(3)),
        (1.0, np.eye(4), np.zeros(3)),
        (1.0, np.eye(3), np.array([np.inf, 0, 0])),
    ],
)
def test_similarity_refuses(parts):
    with pytest.raises(ValueError):
        Similarity(*parts)
