"""Fixtures of the prior's tests."""

import pytest
import torch

from scripts.prior.field import DeformTemplateField
from scripts.prior.prior import ShapePrior, assemble_prior
from scripts.training.prior.network import warm_up_template
from tests.helpers.spheres import sphere_linear


@pytest.fixture(scope="module")
def prior() -> ShapePrior:
    torch.manual_seed(0)
    field = DeformTemplateField(hidden=24, layers=3, code_dim=3, hyper_code_dim=2, rank=2)
    warm_up_template(field, sphere_linear(), steps=150, n_points=400)
    alpha, beta, scores = torch.randn(9, 3), torch.randn(9, 2), torch.randn(9, 2)
    anchor = torch.nn.functional.normalize(torch.randn(50, 3), dim=-1).numpy()
    return assemble_prior(field, alpha, beta, sphere_linear(), scores, anchor, 31.5, {"organ": "ball", "n": 9})
