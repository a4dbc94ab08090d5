"""The training objective vanishes where it must, and only there."""

import math

import pytest
import torch

from scripts.training.prior.losses import DeformTemplateLoss, LossWeights, direction_loss, distance_loss, eikonal_loss


def sphere_case(radius: float = 0.5) -> tuple[dict, dict]:
    """Predictions of the exact signed distance of a sphere by an undeformed template, and its targets."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(2, 40, 3, generator=generator), dim=-1)
    radii = torch.where(torch.arange(40) < 20, radius, 0.2 + 0.7 * torch.rand(2, 40, generator=generator))
    zeros = torch.zeros(2, 40)
    predictions = {
        "sdf": radii - radius,
        "gradient": directions,
        "template_gradient": directions,
        "flow_jacobian": torch.zeros(2, 40, 3, 3),
        "flow_laplacian": torch.zeros(2, 40, 3),
        "correction": zeros[..., None],
        "alpha": torch.zeros(2, 4),
        "beta": torch.zeros(2, 4),
    }
    targets = {"sdf": radii - radius, "normals": directions, "on_surface": (torch.arange(40) < 20).expand(2, 40)}
    return predictions, targets


@pytest.mark.parametrize("weights", [LossWeights(), LossWeights.paper()])
def test_exact_sphere_costs_nothing(weights):
    loss = DeformTemplateLoss(weights)
    assert loss(*sphere_case()).item() < 1e-3  # rounding of cosines, times weights of up to 3e3
    assert set(loss.terms(*sphere_case())) >= {"distance", "normal", "eikonal", "template_normal", "flow_laplacian"}


@pytest.mark.parametrize(
    ("key", "change", "term"),
    [
        ("sdf", 0.01, "distance"),
        ("correction", 0.01, "correction"),
        ("alpha", 1.0, "code"),
        ("beta", 1.0, "hyper_code"),
        ("flow_jacobian", 0.1, "flow_jacobian"),
        ("flow_laplacian", 0.1, "flow_laplacian"),
    ],
)
def test_each_term_sees_its_own_error(key, change, term):
    predictions, targets = sphere_case()
    predictions[key] = predictions[key] + change
    terms = DeformTemplateLoss().terms(predictions, targets)
    assert terms[term] > 0.5 * change
    assert all(value < 1e-5 for name, value in terms.items() if name != term)


def test_closed_forms():
    x, y = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    assert direction_loss(x, y).item() == pytest.approx(1.0)
    assert direction_loss(x, -3 * x).item() == pytest.approx(2.0)
    assert eikonal_loss(torch.cat([x, y])).item() == pytest.approx(0.5)
    far = distance_loss(torch.tensor([3.0, 0.1]), torch.tensor([0.9, 0.3]), clamp=0.5)
    assert far.item() == pytest.approx(0.1)


def test_points_of_unknown_distance_are_pushed_off_the_surface():
    predictions, targets = sphere_case()
    targets["sdf"] = targets["sdf"].clone()
    targets["sdf"][:, 30:] = math.nan
    predictions["sdf"] = predictions["sdf"].clone()
    predictions["sdf"][:, 30:] = 0.01
    terms = DeformTemplateLoss().terms(predictions, targets)
    assert terms["off_surface"].item() == pytest.approx(math.exp(-1.0))
    assert terms["distance"].item() == pytest.approx(0.0, abs=1e-6)


def test_weights_from_a_mapping():
    loss = DeformTemplateLoss({"code": 7.0})
    assert loss.weights.code == 7.0 and loss.weights.distance == 3e3
    with pytest.raises(TypeError):
        DeformTemplateLoss({"no_such_term": 1.0})
