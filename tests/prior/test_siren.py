"""Sine networks: derivatives against autograd and against functions with known ones."""

import math

import pytest
import torch

from scripts.prior.field import autograd_gradient
from scripts.prior.sine_streams import SineStreams
from scripts.prior.siren import Siren, sine_forward, sine_init_bound, sine_jet, sine_slope


def wave_layers(direction: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Layers of f(x) = 2 sin(omega (k . x + 0.3)) + 1."""
    return [(direction[None], torch.tensor([0.3])), (torch.tensor([[2.0]]), torch.tensor([1.0]))]


def test_jet_matches_a_plane_wave():
    direction, omega = torch.tensor([0.2, -0.5, 0.7]), 3.0
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    jet = sine_jet(wave_layers(direction), points, omega, laplacian=True)
    phase = omega * (points @ direction + 0.3)
    torch.testing.assert_close(jet.value[:, 0], 2 * torch.sin(phase) + 1)
    torch.testing.assert_close(jet.gradient[:, 0], 2 * omega * torch.cos(phase)[:, None] * direction)
    assert jet.laplacian is not None
    torch.testing.assert_close(jet.laplacian[:, 0], -2 * omega**2 * direction.square().sum() * torch.sin(phase))


def test_jet_matches_autograd_on_a_deep_network():
    torch.manual_seed(0)
    net = Siren(3, 1, 16, 4, 5.0).double()
    points = torch.rand(20, 3, dtype=torch.float64)
    jet = net.jet(points, laplacian=True)
    value, gradient = autograd_gradient(lambda x: net(x).squeeze(-1), points)
    torch.testing.assert_close(jet.value.squeeze(-1), value)
    torch.testing.assert_close(jet.gradient[:, 0], gradient)
    hessian = torch.stack([torch.autograd.functional.hessian(lambda x: net(x).squeeze(), p) for p in points])
    assert jet.laplacian is not None
    torch.testing.assert_close(jet.laplacian[:, 0], hessian.diagonal(dim1=1, dim2=2).sum(-1))


@pytest.mark.parametrize("laplacian", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_the_gradient_of_a_layer_is_that_of_autograd(laplacian, batched):
    generator = torch.Generator().manual_seed(0)
    streams, bias = (5 if laplacian else 4), (2, 1, 3) if batched else (3,)
    moved, offset = (torch.randn(shape, generator=generator).double() for shape in ((2, 6 * streams, 3), bias))
    given = moved.requires_grad_(True), offset.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda *both: SineStreams.apply(*both, 6, laplacian), given)


@pytest.mark.parametrize("batched", [False, True])
def test_a_backward_pass_finds_the_slope_of_the_forward_one_and_its_gradient(batched):
    torch.manual_seed(0)
    net, points = Siren(3, 1, 16, 4, 5.0).double(), torch.rand(2, 9, 3, dtype=torch.float64)
    layers = [(torch.stack([w, 1.1 * w]), torch.stack([b, -b])) if batched else (w, b) for w, b in net.layers()]
    jet, (value, slope) = sine_jet(layers, points, 5.0), sine_slope(layers, points, 5.0)
    torch.testing.assert_close(value, jet.value.squeeze(-1))
    torch.testing.assert_close(slope, jet.gradient[..., 0, :])
    losses = [((one.norm(dim=-1) - 1) ** 2).sum() for one in (jet.gradient[..., 0, :], slope)]
    learned = [*net.weight, *net.bias[:-1]]  # the last bias moves no slope
    found = [torch.autograd.grad(loss, learned, retain_graph=True) for loss in losses]
    for forward, backward in zip(*found, strict=True):
        torch.testing.assert_close(forward, backward)


def test_weights_of_one_set_an_instance_equal_a_plain_loop():
    torch.manual_seed(0)
    nets = [Siren(3, 4, 8, 3, 5.0) for _ in range(3)]
    pairs = zip(*[n.layers() for n in nets], strict=True)
    batched = [tuple(torch.stack(part) for part in zip(*p, strict=True)) for p in pairs]
    points = torch.rand(3, 7, 3)
    together = sine_forward(batched, points, 5.0)
    jet = sine_jet(batched, points, 5.0)
    for index, net in enumerate(nets):
        torch.testing.assert_close(together[index], net(points[index]))
        torch.testing.assert_close(jet.gradient[index], net.jet(points[index]).gradient)


def test_initialisation_keeps_activations_spread():
    torch.manual_seed(0)
    net = Siren(3, 1, 256, 5, 30.0)
    hidden = torch.rand(2000, 3) * 2 - 1
    for weight, bias in net.layers()[:-1]:
        hidden = torch.sin(30.0 * (hidden @ weight.T + bias))
        assert 0.6 < hidden.std() < 0.8  # arcsine distributed: 1 / sqrt(2)
    assert sine_init_bound(6, 30.0, first=False) == pytest.approx(1 / 30.0)
    assert sine_init_bound(4, 30.0, first=True) == pytest.approx(0.25)
    assert math.isclose(net.weight[0].abs().max().item(), 1 / 3, rel_tol=0.05)


def test_refuses_a_network_of_one_layer():
    with pytest.raises(ValueError, match="at least 2 layers"):
        Siren(3, 1, 8, 1, 30.0)
