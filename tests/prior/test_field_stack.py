"""Fields of several priors in one batch say what each says alone."""

import pytest
import torch

from scripts.prior.field import DeformTemplateField
from scripts.prior.field_stack import FieldStack


def fields(hyper: str, count: int = 3) -> list[DeformTemplateField]:
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        field = DeformTemplateField(hidden=12, layers=4, omega=5.0, code_dim=5, hyper_code_dim=6, hyper=hyper, rank=3)
        found.append(field.double().requires_grad_(False))
    return found


@pytest.mark.parametrize("hyper", ["low_rank", "full"])
def test_each_instance_is_of_its_own_field(hyper):
    alone = fields(hyper)
    stack = FieldStack(alone)
    generator = torch.Generator().manual_seed(1)
    alpha, beta, points = (torch.randn(*n, generator=generator).double() for n in ((3, 5), (3, 6), (3, 11, 3)))
    together = stack.evaluate_with_derivatives(stack.weights(beta), alpha, points, laplacian=True)
    for i, field in enumerate(alone):
        own = alpha[i : i + 1], beta[i : i + 1], points[i : i + 1]
        expected = field.evaluate_with_derivatives(field.weights(own[1]), own[0], own[2], laplacian=True)
        for name, value in expected.items():
            torch.testing.assert_close(together[name][i : i + 1], value)
        torch.testing.assert_close(stack(alpha, beta, points)["sdf"][i], field(*own)["sdf"][0])


def test_gradients_of_codes_and_weights_are_those_of_each_alone():
    alone = fields("low_rank", 2)
    stack = FieldStack(alone)
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(2, 7, 3, generator=generator).double()
    alpha, beta = (torch.randn(2, n, generator=generator).double().requires_grad_(True) for n in (5, 6))
    found = torch.autograd.grad((stack(alpha, beta, points)["sdf"] ** 2).sum(), (alpha, beta))
    weights = {name: value.detach().requires_grad_(True) for name, value in stack.weights(beta).items()}
    (stack.evaluate(weights, alpha.detach(), points)["sdf"] ** 2).sum().backward()
    for i, field in enumerate(alone):
        tuned = {name: value[i : i + 1].detach().requires_grad_(True) for name, value in weights.items()}
        (field.evaluate(tuned, alpha[i : i + 1].detach(), points[i : i + 1])["sdf"] ** 2).sum().backward()
        for name, value in tuned.items():
            torch.testing.assert_close(weights[name].grad[i : i + 1], value.grad)
        own = [code[i : i + 1].detach().requires_grad_(True) for code in (alpha, beta)]
        expected = torch.autograd.grad((field(*own, points[i : i + 1])["sdf"] ** 2).sum(), own)
        for value, of_all in zip(expected, found, strict=True):
            torch.testing.assert_close(of_all[i : i + 1], value)


def test_fields_of_other_sizes_do_not_stack():
    other = DeformTemplateField(hidden=8, layers=4, code_dim=5, hyper_code_dim=6, rank=3)
    with pytest.raises(ValueError, match="same settings"):
        FieldStack([*fields("low_rank", 1), other])
    with pytest.raises(ValueError, match="same settings"):
        FieldStack([])
