"""Affines and similarities: checks, closed forms, round trips."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from scripts.geometry.affine import (
    Similarity,
    apply_affine,
    box_affine,
    check_affine,
    check_place,
    grid_corners,
    grids_apart_mm,
    rotation_angle_deg,
    same_grid,
    spacing_mm,
    voxel_volume_mm3,
)


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


def test_a_part_of_a_grid_keeps_its_place(frame):
    part = box_affine(frame, [3, 0, 7])
    index = np.array([[0.0, 0, 0], [2, 5, 1]])
    np.testing.assert_allclose(apply_affine(part, index), apply_affine(frame, index + [3, 0, 7]))
    np.testing.assert_allclose(box_affine(part, [-3, 0, -7]), frame, atol=1e-12)


def test_volume_of_a_voxel_is_the_product_of_its_edges_unless_it_is_sheared(frame):
    assert voxel_volume_mm3(frame) == pytest.approx(spacing_mm(frame).prod())
    tilted = frame @ np.array([[1, 0, 0, 0], [0, 1, 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    assert voxel_volume_mm3(tilted) == pytest.approx(voxel_volume_mm3(frame))
    assert spacing_mm(tilted).prod() > 1.02 * voxel_volume_mm3(frame)


SIZES = pytest.mark.parametrize("edge_mm", [0.1, 1.0, 10.0])
SHAPE = (512, 400, 60)


@SIZES
def test_a_grid_is_the_same_after_what_headers_do_to_it(frame, edge_mm):
    frame[:3] *= edge_mm
    noise = np.random.default_rng(0).uniform(-1e-4, 1e-4, 3)
    for origin in (0.0, 300.0, -5000.0):
        frame[:3, 3] += origin
        rounded = frame.astype(np.float32).astype(float)
        assert same_grid(SHAPE, frame, SHAPE, rounded) and same_grid(SHAPE, rounded, SHAPE, frame)
        shifted = frame.copy()
        shifted[:3, 3] += noise  # of another tool that writes four decimals
        assert same_grid(SHAPE, frame, SHAPE, shifted)


@SIZES
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_tenth_of_a_voxel_is_another_grid(frame, edge_mm, axis):
    frame[:3] *= edge_mm
    shift = np.zeros(3)
    shift[axis] = 0.1
    assert not same_grid(SHAPE, frame, SHAPE, box_affine(frame, shift))


@SIZES
def test_other_spacing_turn_or_shape_is_another_grid(frame, edge_mm):
    frame[:3] *= edge_mm
    stretched, turned = frame.copy(), frame.copy()
    stretched[:3, 0] *= 1.001
    turned[:3, :3] = Rotation.from_euler("z", 0.1, degrees=True).as_matrix() @ turned[:3, :3]
    assert not same_grid(SHAPE, frame, SHAPE, stretched)
    assert not same_grid(SHAPE, frame, SHAPE, turned)
    assert not same_grid(SHAPE, frame, (512, 400, 61), frame)
    flipped = frame @ np.diag([-1.0, 1, 1, 1])
    flipped[:3, 3] = apply_affine(frame, np.array([[511.0, 0, 0]]))[0]
    assert not same_grid(SHAPE, frame, SHAPE, flipped)


def test_thickness_of_a_single_slice_counts():
    thick = np.diag([1.0, 1.0, 3.0, 1.0])
    assert not same_grid((9, 9, 1), np.eye(4), (9, 9, 1), thick)
    assert grids_apart_mm((9, 9, 1), np.eye(4), thick) == pytest.approx(1.0)


def test_corners_are_outermost_centres_or_beyond():
    assert {tuple(c) for c in grid_corners((3, 1, 2))} == {(x, 0, z) for x in (0, 2) for z in (0, 1)}
    outer = grid_corners((3, 1, 2), 0.5)
    np.testing.assert_array_equal([outer.min(0), outer.max(0)], [[-0.5, -0.5, -0.5], [2.5, 0.5, 1.5]])


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


SLANT = Rotation.from_euler("xyz", [20, -35, 60], degrees=True).as_matrix()


@pytest.mark.parametrize("axes", [np.eye(3), np.diag([-1.0, -1.0, 1.0]), SLANT], ids=["straight", "flipped", "oblique"])
@pytest.mark.parametrize(
    ("edges", "shape", "origin", "said"),
    [
        ((0.05, 0.05, 0.05), (600, 600, 600), 0, ""),
        ((0.3, 0.3, 10.0), (512, 512, 60), -900, ""),
        ((1.4, 1.4, 3.0), (512, 512, 700), 2_000, ""),  # a whole body
        ((1.0, 1.0, 1e-6), (9, 9, 9), 0, "voxels measure .* 1e-06 mm"),
        ((1e4, 1.0, 1.0), (9, 9, 9), 0, "voxels measure 1e\\+04 x 1 x 1 mm"),
        ((0.05, 0.05, 50.0), (9, 9, 9), 0, "1000 times longer than wide"),
        ((1.0, 1.0, 50.0), (9, 9, 900), 0, "measures .* 44.95 m"),
        ((5.0, 5.0, 5.0), (512, 512, 512), 0, "measures 2.555 x 2.555 x 2.555 m"),
        ((1.0, 1.0, 1.0), (9, 9, 9), 1e9, "lies 1e\\+06 m away"),
    ],
)
def test_a_patient_has_a_plausible_place(axes, edges, shape, origin, said):
    affine = np.eye(4)
    affine[:3, :3] = axes * edges
    affine[:3, 3] = origin
    if not said:
        assert np.array_equal(check_place(affine, shape), affine)
        return
    with pytest.raises(ValueError, match=said):
        check_place(affine, shape)


def test_axes_that_are_nearly_parallel_have_no_place_and_a_tilted_gantry_has():
    affine = np.eye(4)
    affine[:3, 2] = 0.5, 0.0, 0.87  # 30 degrees
    check_place(affine, (9, 9, 9))
    affine[:3, 2] = 1.0, 0.0, 0.01
    with pytest.raises(ValueError, match="nearly parallel"):
        check_place(affine, (9, 9, 9))
