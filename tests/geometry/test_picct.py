"""PICCT: pycpd's own EM as reference, known similarities recovered, partial and mirrored shapes, verdicts."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycpd import RigidRegistration
from scipy.spatial.transform import Rotation

from scripts.geometry.affine import rotation_angle_deg
from scripts.geometry.picct import PICCT, CanonicalTransform, ConstrainedRegistration, VectorisedRegistration, normalise
from tests.helpers.bean import bean, world

RNG = np.random.default_rng(0)


ANCHOR = bean(1000, seed=1)
TO_CANONICAL = normalise(ANCHOR)


def picct(**options):
    settings_ = {"n_points": 300, **options}
    return PICCT(TO_CANONICAL.apply(ANCHOR), 1.0 / TO_CANONICAL.scale, **settings_)


def errors(result, truth, points):
    """Relative scale error, rotation error in degrees, RMS point error in canonical units."""
    difference = result.similarity.rotation @ truth.rotation.T
    points_error = result.to_canonical(points) - truth.apply(points)
    return (
        abs(result.similarity.scale / truth.scale - 1),
        rotation_angle_deg(difference),
        np.sqrt((points_error**2).sum(axis=1).mean()),
    )


def test_normalise():
    points = RNG.normal(size=(200, 3)) * (3, 10, 30) + 500
    similarity = normalise(points)
    unit = similarity.apply(points)
    np.testing.assert_allclose(unit.mean(axis=0), 0, atol=1e-9)
    assert np.linalg.norm(unit, axis=1).max() == pytest.approx(0.9)
    np.testing.assert_array_equal(similarity.rotation, np.eye(3))
    for bad in (np.zeros((0, 3)), np.ones((5, 3)), np.full((5, 3), np.nan), np.zeros((5, 2))):
        with pytest.raises(ValueError):
            normalise(bad)


@pytest.mark.parametrize("sigma2", [1.0, 0.02])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_expectation_equals_pycpd(sigma2, weight):
    data, moving = RNG.normal(size=(70, 3)), RNG.normal(size=(45, 3))
    theirs = RigidRegistration(X=data, Y=moving, w=weight, sigma2=sigma2)
    ours = VectorisedRegistration(X=data, Y=moving, w=weight, sigma2=sigma2)
    theirs.expectation()
    ours.expectation()
    np.testing.assert_allclose(ours.P, theirs.P, atol=1e-10)
    np.testing.assert_allclose(ours.P1, theirs.P1, atol=1e-10)
    np.testing.assert_allclose(ours.Pt1, theirs.Pt1, atol=1e-10)
    np.testing.assert_allclose(ours.PX, theirs.P @ data, atol=1e-10)
    assert ours.Np == pytest.approx(theirs.Np)


@pytest.mark.parametrize("engine", [VectorisedRegistration, ConstrainedRegistration])
def test_whole_registration_equals_pycpd(engine):
    moving = bean(150, seed=3) / 40
    data = world(12, 1.2, (0.3, 0.1, -0.2)).apply(bean(160, seed=4) / 40)
    theirs = RigidRegistration(X=data, Y=moving, w=0.1, max_iterations=25, tolerance=0)
    ours = engine(X=data, Y=moving, w=0.1, max_iterations=25, tolerance=0)
    for one, other in zip(theirs.register()[1], ours.register()[1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)
    assert ours.sigma2 == pytest.approx(theirs.sigma2)


def test_outlier_term_does_not_depend_on_the_unit():
    data, moving = bean(80, seed=3), bean(70, seed=4)
    posteriors = []
    for unit in (1.0, 0.025):
        engine = VectorisedRegistration(
            X=unit * data, Y=unit * moving, w=0.3, sigma2=(6 * unit) ** 2, volume=80 * 56 * 40 * unit**3
        )
        engine.expectation()
        posteriors.append(engine.P)
    np.testing.assert_allclose(*posteriors, atol=1e-12)


def test_fixed_rotation_is_kept_and_the_rest_is_optimal():
    rotation = Rotation.from_euler("z", 10, degrees=True).as_matrix()
    moving = bean(150, seed=3) / 40
    data = 1.3 * moving @ rotation.T + (0.1, 0.2, -0.1)
    engine = ConstrainedRegistration(X=data, Y=moving, sigma2=0.01, max_iterations=60, tolerance=0, fixed=rotation)
    scale, rows, shift = engine.register()[1]
    np.testing.assert_array_equal(rows.T, rotation)
    assert scale == pytest.approx(1.3, rel=1e-3)
    np.testing.assert_allclose(shift, (0.1, 0.2, -0.1), atol=1e-3)


@settings(max_examples=12, deadline=None)
@given(
    st.floats(0, 24),
    st.floats(0.7, 1.4),
    st.lists(st.floats(-400, 400), min_size=3, max_size=3),
    st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(lambda a: np.linalg.norm(a) > 0.2),
)
def test_recovers_a_known_similarity(degrees, scale, shift, axis):
    # a known weakness: turned by more than 23° within 25° of -x, this shape may settle 13° off
    assume(degrees < 23 or -axis[0] / np.linalg.norm(axis) < np.cos(np.radians(25)))
    to_world = world(degrees, scale, shift, np.array(axis) / np.linalg.norm(axis))
    points = to_world.apply(bean(1000, seed=2))
    truth = TO_CANONICAL.compose(to_world.inverse())
    result = picct(rotation_shrinkage=0.0)(points, seed=1)
    assert result.failure == "" and not result.mirrored
    scale_error, angle_error, rms = errors(result, truth, points)
    assert scale_error < 0.03 and angle_error < 5 and rms < 0.04
    np.testing.assert_allclose(result.to_world(result.to_canonical(points)), points, atol=1e-6)


def test_default_shrinks_a_rotation_only_a_little():
    to_world = world(20)
    points = to_world.apply(bean(1000, seed=2))
    result = picct()(points)
    assert result.failure == "" and 15 < result.rotation_deg < 21


def test_more_shrinkage_gives_less_rotation():
    points = world(20).apply(bean(1000, seed=2))
    angles = [picct(rotation_shrinkage=value)(points).rotation_deg for value in (0.0, 0.03, 0.2)]
    assert angles[0] > angles[1] > angles[2]


@pytest.mark.parametrize("missing", [0.2, 0.33])
@pytest.mark.parametrize("axis", [0, 1])
def test_scale_survives_a_missing_chunk(missing, axis):
    whole = bean(1000, seed=2)
    part = whole[whole[:, axis] < np.quantile(whole[:, axis], 1 - missing)]
    to_world = world(8)
    result = picct(n_points=500)(to_world.apply(part))
    truth = TO_CANONICAL.compose(to_world.inverse())
    assert result.failure == ""
    scale_error, _, rms = errors(result, truth, to_world.apply(whole))
    assert scale_error < 0.1 and rms < 0.1


def test_islands_are_outliers():
    to_world = world(5)
    whole = bean(1000, seed=2)
    island = RNG.normal(scale=3.0, size=(80, 3)) + (70, 40, 0)
    result = picct(n_points=500)(to_world.apply(np.vstack([whole, island])))
    truth = TO_CANONICAL.compose(to_world.inverse())
    scale_error, _, rms = errors(result, truth, to_world.apply(whole))
    assert result.failure == "" and scale_error < 0.05 and rms < 0.06


def test_rotation_is_capped():
    to_world = world(45)
    points = to_world.apply(bean(1000, seed=2))
    result = picct(max_rotation_deg=15.0)(points)
    assert result.failure == ""
    assert result.rotation_deg == pytest.approx(15.0)
    assert rotation_angle_deg(result.similarity.rotation) == pytest.approx(15.0)
    assert result.similarity.scale == pytest.approx(TO_CANONICAL.scale, rel=0.1)
    still = picct(max_rotation_deg=0.0)(points)
    np.testing.assert_allclose(still.similarity.rotation, np.eye(3), atol=1e-9)


def test_mirrored_side_is_found():
    to_world = world(6)
    left = to_world.apply(bean(1000, seed=2))
    right = left * (-1, 1, 1)
    auto = picct(mirror="auto", n_points=400)
    assert not auto(left).mirrored
    result = auto(right)
    assert result.mirrored and result.failure == ""
    assert np.linalg.det(result.similarity.rotation) == pytest.approx(-1)
    assert result.rotation_deg < 10
    np.testing.assert_allclose(result.to_canonical(right), auto(left).to_canonical(left), atol=0.05)
    assert not picct(mirror="never")(right).mirrored
    assert picct(mirror="always")(right).mirrored
    np.testing.assert_allclose(result.to_world(result.to_canonical(right)), right, atol=1e-6)


def test_the_same_seed_gives_the_same_bytes():
    points = world(10).apply(bean(1000, seed=2))
    one, other = picct()(points, seed=4), picct()(points, seed=4)
    assert one.similarity.as_matrix().tobytes() == other.similarity.as_matrix().tobytes()
    assert one.sigma == other.sigma
    assert picct()(points, seed=5).sigma != one.sigma


def test_identical_points_need_no_noise():
    result = picct()(ANCHOR)
    assert result.failure == "" and result.converged
    np.testing.assert_allclose(result.similarity.scale, TO_CANONICAL.scale, rtol=0.02)


def assert_falls_back(result: CanonicalTransform, reason: str):
    assert reason in result.failure
    assert result.rotation_deg == 0 and not result.converged
    np.testing.assert_array_equal(np.abs(result.similarity.rotation), np.eye(3))


@pytest.mark.parametrize("count", [0, 1, 5, 19])
def test_too_few_points(count):
    points = world(0).apply(bean(1000, seed=2))[:count]
    result = picct()(points)
    assert_falls_back(result, f"only {count} points")
    if count:
        np.testing.assert_allclose(
            result.to_canonical(points).mean(axis=0), TO_CANONICAL.apply(ANCHOR).mean(axis=0), atol=1e-9
        )


def test_points_that_are_not_finite():
    points = bean(1000, seed=2)
    points[3, 1] = np.nan
    points[5, 0] = np.inf
    assert_falls_back(picct()(points), "2 points are not finite")


def test_points_that_coincide():
    result = picct()(np.full((100, 3), 7.0))
    assert_falls_back(result, "coincide")
    assert result.similarity.scale == pytest.approx(TO_CANONICAL.scale)


def test_a_shape_of_another_size():
    result = picct(max_scale_ratio=1.5)(3 * bean(1000, seed=2))
    assert "scale" in result.failure
    assert TO_CANONICAL.scale / 1.5 <= result.similarity.scale * (1 + 1e-9)


def test_no_convergence():
    assert_falls_back(picct(max_iterations=2)(world(15).apply(bean(1000, seed=2))), "did not converge")


def test_sigma_of_a_scattered_cloud_is_too_large():
    cloud = np.random.default_rng(1).uniform(-60, 60, size=(600, 3))
    assert picct()(cloud).failure != ""


@pytest.mark.parametrize(
    "options",
    [{"mirror": "sometimes"}, {"outlier_weight": 1.0}, {"n_points": 5}, {"max_scale_ratio": 0.5}],
)
def test_bad_options(options):
    with pytest.raises(ValueError):
        picct(**options)


def test_bad_anchor():
    for anchor in (ANCHOR[:10], np.full((50, 3), np.nan), np.zeros((50, 2))):
        with pytest.raises(ValueError, match="anchor"):
            PICCT(anchor, 40.0)
    with pytest.raises(ValueError, match="scale_mm"):
        PICCT(TO_CANONICAL.apply(ANCHOR), 0.0)
