"""The deform-template field and its hyper-networks."""

import pytest
import torch

from scripts.prior.field import DeformTemplateField, autograd_gradient
from scripts.prior.hypernet import deform_layer_sizes


def small_field(hyper: str = "low_rank") -> DeformTemplateField:
    torch.manual_seed(0)
    field = DeformTemplateField(hidden=12, layers=4, omega=5.0, code_dim=5, hyper_code_dim=6, hyper=hyper, rank=3)
    with torch.no_grad():  # a deformation large enough to matter
        for name, parameter in field.hyper.named_parameters():
            if name.startswith("nets") and name.endswith("weight"):
                parameter.mul_(5.0)
    return field.double()


def codes(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(count, n, generator=generator, dtype=torch.float64) for n in (5, 6))  # type: ignore


@pytest.mark.parametrize("hyper", ["low_rank", "full"])
def test_batched_instances_equal_a_plain_loop(hyper):
    field = small_field(hyper)
    alpha, beta = codes()
    points = torch.rand(3, 11, 3, dtype=torch.float64) * 2 - 1
    together = field(alpha, beta, points)
    weights = field.weights(beta)
    for index in range(3):
        hidden = torch.cat([points[index], alpha[index].expand(11, -1)], dim=1)
        for layer in range(4):
            hidden = hidden @ weights[f"weight{layer}"][index].T + weights[f"bias{layer}"][index]
            hidden = hidden if layer == 3 else torch.sin(5.0 * hidden)
        moved = points[index] + hidden[:, :3]
        torch.testing.assert_close(together["flow"][index], hidden[:, :3])
        torch.testing.assert_close(together["template_points"][index], moved)
        torch.testing.assert_close(together["sdf"][index], (field.template(moved) + hidden[:, 3:]).squeeze(-1))
        alone = field.sdf(field.weights(beta[index : index + 1]), alpha[index : index + 1], points[index], chunk=4)
        torch.testing.assert_close(alone, together["sdf"][index])


@pytest.mark.parametrize("hyper", ["low_rank", "full"])
def test_weight_shapes(hyper):
    weights = small_field(hyper).weights(codes()[1])
    sizes = deform_layer_sizes(5, 12, 4)
    assert sizes == [(8, 12), (12, 12), (12, 12), (12, 4)]
    assert set(weights) == {f"{kind}{i}" for kind in ("weight", "bias") for i in range(4)}
    for index, (fan_in, fan_out) in enumerate(sizes):
        assert weights[f"weight{index}"].shape == (3, fan_out, fan_in)
        assert weights[f"bias{index}"].shape == (3, fan_out)


@pytest.mark.parametrize("hyper", ["low_rank", "full"])
def test_both_codes_steer_the_field(hyper):
    field = small_field(hyper)
    alpha, beta = codes(2)
    points = torch.rand(1, 9, 3, dtype=torch.float64)
    base = field(alpha[:1], beta[:1], points)["sdf"]
    assert (field(alpha[1:], beta[:1], points)["sdf"] - base).abs().max() > 1e-6
    assert (field(alpha[:1], beta[1:], points)["sdf"] - base).abs().max() > 1e-6


def test_derivatives_match_autograd():
    field = small_field()
    alpha, beta = codes()
    points = (torch.rand(3, 6, 3, dtype=torch.float64) * 2 - 1).requires_grad_(True)
    weights = field.weights(beta)
    result = field.evaluate_with_derivatives(weights, alpha, points, laplacian=True)
    plain = field.evaluate(weights, alpha, points)
    for key in plain:
        torch.testing.assert_close(result[key], plain[key])
    _, gradient = autograd_gradient(lambda x: field.evaluate(weights, alpha, x)["sdf"], points)
    torch.testing.assert_close(result["gradient"], gradient)
    moved = plain["template_points"].detach()
    _, template_gradient = autograd_gradient(lambda x: field.template(x).squeeze(-1), moved)
    torch.testing.assert_close(result["template_gradient"], template_gradient)
    for axis in range(3):
        (row,) = torch.autograd.grad(plain["flow"][..., axis].sum(), points, create_graph=True)
        torch.testing.assert_close(result["flow_jacobian"][..., axis, :], row)
        second = sum(torch.autograd.grad(row[..., d].sum(), points, retain_graph=True)[0][..., d] for d in range(3))
        torch.testing.assert_close(result["flow_laplacian"][..., axis], second)


def test_one_instance_is_tuned_by_its_own_weights():
    field = small_field().requires_grad_(False)
    alpha, beta = codes(1)
    weights = {name: value.detach().clone().requires_grad_(True) for name, value in field.weights(beta).items()}
    points = torch.rand(1, 20, 3, dtype=torch.float64)
    optimizer = torch.optim.Adam(list(weights.values()), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = (field.evaluate(weights, alpha, points)["sdf"] - 0.2).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_untrained_flow_is_small():
    torch.manual_seed(0)
    field = DeformTemplateField(code_dim=8, hyper_code_dim=8)
    flow = field(torch.randn(4, 8) * 0.3, torch.randn(4, 8) * 0.3, torch.rand(4, 100, 3) * 2 - 1)["flow"]
    assert flow.abs().mean() < 0.1


def test_refuses_an_unknown_hyper_network():
    with pytest.raises(ValueError, match="low_rank"):
        DeformTemplateField(hyper="other")
