"""Shapes compared point by point: balls and ellipsoids whose differences are known."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from scripts.metrics.groups import compare_groups
from scripts.report.shape_study import Placed, Shape, Study, Template

BALL = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
TEMPLATE = Template(np.asarray(BALL.vertices), np.asarray(BALL.faces), 20.0)
DIRECTIONS = TEMPLATE.places / 0.5
FINE = trimesh.creation.icosphere(subdivisions=4)


def shape(radius_mm, pose: int | None = None, mirrored: bool = False, without=None) -> Shape:
    """The star-shaped body whose radius is a function of directions (N, 3), meshed otherwise than the template."""
    mesh = FINE.copy()
    mesh.apply_transform(trimesh.transformations.random_rotation_matrix(np.random.default_rng(9).uniform(size=3)))
    directions = np.asarray(mesh.vertices)
    points = directions * np.broadcast_to(radius_mm(directions), len(directions))[:, None]
    faces = np.asarray(mesh.faces)
    if mirrored:
        points, faces = points * (-1.0, 1.0, 1.0), faces[:, ::-1]
    if pose is not None:
        points = Rotation.random(random_state=pose).apply(points) + np.random.default_rng(pose).normal(0, 80, 3)
    if without is not None:
        faces = faces[~without(directions[faces].mean(axis=1))]
    return Shape(trimesh.Trimesh(points, faces, process=False), 0.5 * directions, mirrored)


def study_of(shapes: list[Shape], remove_size: bool = False) -> Study:
    return Study.of(TEMPLATE, [Placed.on(TEMPLATE, one) for one in shapes], remove_size)


def bump(directions: np.ndarray) -> np.ndarray:
    """One at +z, and nearly nothing from 50° on."""
    return np.exp(-((np.arccos(directions[:, 2].clip(-1, 1)) / np.radians(18)) ** 2))


def wavy(seed: int, depth_mm: float, height_mm: float = 0.0):
    """A radius of 10 mm with smooth random waves, and a bump."""
    rng = np.random.default_rng(seed)
    waves, phases = rng.normal(0, 3, (6, 3)), rng.uniform(0, 6, 6)
    return lambda d: 10 + depth_mm * np.cos(d @ waves.T + phases).mean(axis=1) + height_mm * bump(d)


def test_distances_of_concentric_balls_are_differences_of_radii():
    study = study_of([shape(lambda d, r=r: r, pose=n) for n, r in enumerate((8.0, 10.0, 12.0))])
    expected = np.array([-2.0, 0.0, 2.0])[:, None] * np.ones(len(DIRECTIONS))
    np.testing.assert_allclose(study.distance_mm, expected, atol=0.06)
    np.testing.assert_allclose(study.thickness_mm, 2.0 * (10.0 + expected), atol=0.12)
    assert study.known.all() and study.variance[0] > 0.99


def test_size_can_be_taken_out():
    shapes = [shape(lambda d, r=r: r, pose=n) for n, r in enumerate((8.0, 10.0, 12.0))]
    study = study_of(shapes, remove_size=True)
    np.testing.assert_allclose(study.distance_mm, 0.0, atol=0.08)
    np.testing.assert_allclose(study.thickness_mm.mean(axis=1), [16.0, 20.0, 24.0], atol=0.12)


@pytest.mark.parametrize("mirrored", [False, True])
def test_points_correspond_whatever_the_pose_and_the_side(mirrored):
    radius = wavy(3, 2.0, 3.0)
    study = study_of([shape(radius), shape(radius, pose=5, mirrored=mirrored)])
    np.testing.assert_allclose(study.points[0], study.points[1], atol=0.05)
    np.testing.assert_allclose(study.distance_mm, 0.0, atol=0.05)


def test_only_where_two_groups_differ_is_t_high():
    first = [shape(wavy(n, 1.0, 2.0), pose=n) for n in range(12)]
    second = [shape(wavy(100 + n, 1.0), pose=100 + n) for n in range(12)]
    study = study_of(first + second)
    found = compare_groups(study.distance_mm[:12], study.distance_mm[12:])
    angle = np.degrees(np.arccos(DIRECTIONS[:, 2].clip(-1, 1)))
    assert (found.t[angle < 15] > 5).all() and (found.q[angle < 15] < 0.01).all()
    assert np.median(np.abs(found.t[angle > 60])) < 2 and (found.q[angle > 60] < 0.05).mean() < 0.05
    assert found.difference[angle < 5] == pytest.approx(2.0, abs=0.6)


def test_an_ellipsoid_and_a_ball_differ_along_its_axes():
    def egg(d):
        return 1.0 / np.sqrt(((d / (10.0, 10.0, 13.0)) ** 2).sum(axis=1))

    study = study_of([shape(lambda d: 10.0), shape(egg)])
    difference = study.distance_mm[1] - study.distance_mm[0]
    assert difference[np.argmax(DIRECTIONS[:, 2])] == pytest.approx(3.0, abs=0.2)
    assert np.abs(difference[np.abs(DIRECTIONS[:, 2]) < 0.1]).max() < 0.2


def test_a_part_that_a_shape_lacks_is_unknown_and_the_rest_is_not():
    cut = shape(lambda d: 10.0, pose=1, without=lambda d: d[:, 2] < -0.6)
    study = study_of([cut, *(shape(wavy(n, 0.5), pose=n) for n in range(3))])
    low, high = DIRECTIONS[:, 2] < -0.8, DIRECTIONS[:, 2] > -0.5
    assert np.isnan(study.distance_mm[0, low]).all() and np.isfinite(study.distance_mm[0, high]).all()
    assert np.isfinite(study.distance_mm[1:]).all()


def test_scores_and_modes_give_the_shapes_back():
    study = study_of([shape(wavy(n, 2.0)) for n in range(5)])
    again = study.points.mean(axis=0) + np.einsum("sk,kni->sni", study.scores, study.modes)
    np.testing.assert_allclose(again, study.points, atol=0.02)
    np.testing.assert_allclose(study.scores.std(axis=0, ddof=1), 1.0, atol=1e-3)
    assert study.variance.sum() == pytest.approx(1.0, abs=1e-3) and (np.diff(study.variance) < 1e-6).all()


def test_one_shape_is_not_compared():
    with pytest.raises(ValueError, match="from 2 on, there are 1"):
        study_of([shape(lambda d: 10.0)])


def test_a_shape_that_has_hardly_any_of_the_template_has_no_place():
    scrap = shape(lambda d: 10.0, without=lambda d: d[:, 2] < 0.9)
    with pytest.raises(ValueError, match=r"its mesh has \d % of the template"):
        Placed.on(TEMPLATE, scrap)
    broken = shape(lambda d: 10.0)
    broken.places[3] = np.nan
    with pytest.raises(ValueError, match="holds NaN"):
        Placed.on(TEMPLATE, broken)
