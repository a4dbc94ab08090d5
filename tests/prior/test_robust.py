import numpy as np
import torch
from scipy.spatial.transform import Rotation

from scripts.geometry.affine import Similarity
from scripts.prior.robust import Channel, _Prepared, fit_linear
from tests.helpers.ellipsoids import ellipsoid_points, ellipsoid_sdf, linear_model

RADII = np.array([0.3, 0.4, 0.8])


def world_case(outliers: int = 0) -> tuple[Channel, Similarity]:
    """Points of a known ellipsoid under a known similarity, some of them replaced by outliers 15 mm away."""
    to_canonical = Similarity(
        1 / 40.0, Rotation.from_rotvec([0.05, -0.1, 0.08]).as_matrix(), np.array([0.4, -0.2, 0.1])
    )
    points, normals = ellipsoid_points(RADII, 800, 1)
    world = to_canonical.inverse().apply(points)
    directions = to_canonical.inverse().apply_directions(normals)
    world[:outliers] += 15.0 * directions[:outliers]
    channel = Channel(linear_model(), torch.zeros(3), world, np.zeros(len(world)), np.ones(len(world)))
    return channel, to_canonical


def start_of(truth: Similarity) -> Similarity:
    """A start a few millimetres and degrees off."""
    return Similarity(1.05, np.eye(3), np.array([0.06, 0.05, -0.05])).compose(
        Similarity(truth.scale, np.eye(3), truth.translation)
    )


def fitted_error_mm(channel: Channel, truth: Similarity) -> float:
    fit = fit_linear([channel], start_of(truth), 0.5)
    clean, _ = ellipsoid_points(RADII, 500, 7)
    return float(np.abs(fit.sdf_mm(channel.model, channel.centre, truth.inverse().apply(clean))).mean())


def test_fit_recovers_a_known_shape_and_pose():
    channel, truth = world_case()
    assert fitted_error_mm(channel, truth) < 0.5


def test_fit_ignores_a_fifth_of_outliers():
    channel, truth = world_case(outliers=160)
    assert fitted_error_mm(channel, truth) < 0.8
    weights = fit_linear([channel], start_of(truth), 0.5).weights[0]
    assert weights[:160].mean() < 0.1 < 0.8 < weights[160:].mean()


def test_untrusted_points_do_not_count():
    channel, truth = world_case(outliers=400)
    channel.trust[:400] = 0.0
    assert fitted_error_mm(channel, truth) < 0.6


def test_distance_goes_on_beyond_the_grid():
    model = linear_model()
    far = torch.tensor([[5.0, 0.0, 0.0]])
    inside_edge = model.evaluate(torch.zeros(model.n_modes), torch.tensor([[1.1, 0.0, 0.0]]))
    assert torch.allclose(model.evaluate(torch.zeros(model.n_modes), far), inside_edge + 3.9, atol=1e-5)


def test_linear_model_reproduces_its_family():
    model = linear_model()
    points, _ = ellipsoid_points(np.array([0.3, 0.4, 0.7]), 300, 3)
    grid = np.stack(np.meshgrid(*[np.linspace(-1.1, 1.1, 24)] * 3, indexing="ij"), -1)
    scores = model.scores(ellipsoid_sdf(grid, np.array([0.3, 0.4, 0.7]))[None])[0]
    assert model.evaluate(scores, torch.as_tensor(points, dtype=torch.float32)).abs().max() < 0.02


def test_the_jacobian_is_that_of_the_residuals():
    channel, truth = world_case()
    prepared, pose, radius, step = _Prepared(channel), start_of(truth), 0.5, 0.02
    scores = torch.full((channel.model.n_modes,), 0.3)
    _, jacobian = prepared.linearise(pose, scores, radius)

    def distances(k: int, change: float) -> torch.Tensor:
        """In mm of the pose before, at scores and pose with one parameter changed."""
        moved, twist = scores.clone(), np.zeros(7)
        if k < len(scores):
            moved[k] += change
        else:
            twist[k - len(scores)] = change
        scale, turn = float(np.exp(twist[0])), Rotation.from_rotvec(twist[1:4]).as_matrix()
        residual, _ = prepared.linearise(Similarity(scale, turn, twist[4:] * radius).compose(pose), moved, radius)
        return scale * (residual + prepared.targets_mm)

    for k in range(jacobian.shape[1]):
        found = (distances(k, step) - distances(k, -step)) / (2 * step)
        assert (found - jacobian[:, k]).norm() < 0.4 * jacobian[:, k].norm(), k  # of a grid, whose gradient has steps
