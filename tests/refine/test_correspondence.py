"""Correspondence after the whole chain: a known instance of the packaged prior, on several grids, also mirrored."""

import numpy as np
import pytest
import torch

from scripts.geometry.affine import Similarity
from scripts.organ.pack import OrganPack
from scripts.prior.correspondence import template_places
from scripts.prior.prior import ShapePrior
from tests.helpers.mean_shape import CENTRE, KINDS, damaged, mean_shape, run


def true_places(points_world: np.ndarray, mirrored: bool) -> tuple[ShapePrior, np.ndarray]:
    """The prior and the template points (N, 3) of world points on the shape which `mean_shape` draws."""
    prior = ShapePrior.load(OrganPack.load("hippocampus").structures[0].prior)
    axes = np.diag([-1.0, 1.0, 1.0]) if mirrored else np.eye(3)
    pose = Similarity(1 / prior.scale_mm, axes, -axes @ CENTRE / prior.scale_mm)
    alpha, beta = prior.split_codes(prior.code_mean[None])
    points = torch.as_tensor(pose.apply(points_world), dtype=torch.float32)
    return prior, template_places(prior, prior.field.weights(beta), alpha, points).detach().numpy()


def errors_mm(case, mirrored: bool) -> np.ndarray:
    """How far the fitted template points (V, 3) are from the true ones, mm."""
    prior, truth = true_places(np.asarray(case.mesh.vertices), mirrored)
    return prior.scale_mm * np.linalg.norm(case.correspondence.template_points - truth, axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_vertices_find_their_place_on_any_grid(kind):
    case = run(*mean_shape(kind))["pred_shapes"][0]
    error = errors_mm(case, mirrored=False)
    assert error.mean() < 0.8 and np.percentile(error, 95) < 1.6
    assert case.correspondence.colours.shape == case.mesh.vertices.shape
    assert case.seconds["correspondence"] < case.seconds["finetune"]


def test_the_other_side_has_the_same_places():
    case = run(*mean_shape("plain", mirrored=True))["pred_shapes"][0]
    assert case.transform.mirrored
    assert errors_mm(case, mirrored=True).mean() < 0.8
    assert errors_mm(case, mirrored=False).mean() > 3.0  # the test tells sides apart


def test_damage_leaves_places_on_the_template_and_near_the_truth():
    truth, affine = mean_shape("oblique")
    case = run(damaged(truth, affine), affine)["pred_shapes"][0]
    prior = case.prior
    with torch.no_grad():
        off = prior.field.template(torch.as_tensor(case.correspondence.template_points)).abs() * prior.scale_mm
    assert off.max() < 0.3
    assert errors_mm(case, mirrored=False).mean() < 1.0


def test_the_linear_preset_takes_the_deformation_of_its_codes():
    case = run(*mean_shape("plain"), preset="linear")["pred_shapes"][0]
    assert errors_mm(case, mirrored=False).mean() < 0.8
