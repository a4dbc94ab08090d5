"""The deform-template implicit field, s(x) = T(x + v(x)) + δ(x) with (v, δ) = D_θ(α, x), θ = Ψ(β) (Eq. 41-45)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..gpu_memory import in_pieces
from .hypernet import DeformWeights, FullHyperNetwork, LowRankHyperNetwork, deform_layer_sizes
from .siren import Jet, Layers, Siren, sine_forward, sine_jet, sine_slope

UNKNOWN_HYPER = 'hyper must be "low_rank" or "full", not {!r}'


def autograd_gradient(function: Callable[[Tensor], Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    """Value (..., N) of a scalar function and its gradient (..., N, 3) at points (..., N, 3), by autograd.

    The graph is kept, so the gradient may stand in a loss.
    """
    with torch.enable_grad():
        points = points if points.requires_grad else points.detach().requires_grad_(True)
        value = function(points)
        (gradient,) = torch.autograd.grad(value.sum(), points, create_graph=True)
    return value, gradient


class DeformedTemplate(nn.Module, ABC):
    """What a template and a deform net make of points, for B instances at once.

    All coordinates are canonical; distances are canonical and negative inside. Each layer is one batched product.
    """

    n_layers: int
    omega: float

    @abstractmethod
    def template(self, points: Tensor) -> Tensor:
        """T at points (..., 3): (..., 1)."""

    @abstractmethod
    def template_layers(self) -> Layers:
        """T's weights."""

    @abstractmethod
    def weights(self, beta: Tensor) -> DeformWeights:
        """Materialised deform weights of B instances from β (B, H).

        The result is a plain dictionary of tensors: detach and clone them to tune one instance by itself.
        """

    def _conditioned(self, weights: DeformWeights, alpha: Tensor) -> Layers:
        """Deform layers with the instance code, which is the same at every point, moved into the first bias."""
        layers = [(weights[f"weight{i}"], weights[f"bias{i}"]) for i in range(self.n_layers)]
        first, bias = layers[0]
        layers[0] = (first[:, :, :3], bias + torch.matmul(first[:, :, 3:], alpha.unsqueeze(-1)).squeeze(-1))
        return layers

    def deform(self, weights: DeformWeights, alpha: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Flow v (B, N, 3) and correction δ (B, N, 1) of B instances at their points (B, N, 3)."""
        return sine_forward(self._conditioned(weights, alpha), points, self.omega).split([3, 1], dim=-1)

    def evaluate(self, weights: DeformWeights, alpha: Tensor, points: Tensor) -> dict[str, Tensor]:
        """The field from materialised weights.

        Args:
            weights: deform weights of B instances.
            alpha: (B, A).
            points: (B, N, 3), canonical.

        Returns:
            sdf (B, N), flow (B, N, 3), correction (B, N, 1), template_points (B, N, 3) = points + flow.
        """
        flow, correction = self.deform(weights, alpha, points)
        template_points = points + flow
        sdf = (self.template(template_points) + correction).squeeze(-1)
        return {"sdf": sdf, "flow": flow, "correction": correction, "template_points": template_points}

    def evaluate_with_derivatives(
        self, weights: DeformWeights, alpha: Tensor, points: Tensor, laplacian: bool = False, backward: bool = False
    ) -> dict[str, Tensor]:
        """`evaluate` and, beside its entries, the first derivatives with respect to the points.

        Args:
            weights: deform weights of B instances.
            alpha: (B, A).
            points: (B, N, 3), canonical.
            laplacian: also give the flow's.
            backward: find ∇T in a backward pass, see `sine_slope`: faster, for training. In the last digits it differs
                from the forward one, by which masks and meshes are made.

        Returns:
            Also gradient (B, N, 3) = ∇s, template_gradient (B, N, 3) = ∇T at x + v, flow_jacobian (B, N, 3, 3) with
            [..., i, j] = dv_i/dx_j, correction_gradient (B, N, 3) and, on request, flow_laplacian (B, N, 3).
        """
        jet: Jet = sine_jet(self._conditioned(weights, alpha), points, self.omega, laplacian)
        flow, correction = jet.value.split([3, 1], dim=-1)
        template_points = points + flow
        if backward:
            template, template_gradient = sine_slope(self.template_layers(), template_points, self.omega)
        else:
            forward = sine_jet(self.template_layers(), template_points, self.omega)
            template, template_gradient = forward.value.squeeze(-1), forward.gradient[..., 0, :]
        jacobian, correction_gradient = jet.gradient[..., :3, :], jet.gradient[..., 3, :]
        pulled = torch.matmul(template_gradient.unsqueeze(-2), jacobian).squeeze(-2)
        result = {
            "sdf": template + correction.squeeze(-1),
            "flow": flow,
            "correction": correction,
            "template_points": template_points,
            "gradient": template_gradient + pulled + correction_gradient,
            "template_gradient": template_gradient,
            "flow_jacobian": jacobian,
            "correction_gradient": correction_gradient,
        }
        if jet.laplacian is not None:
            result["flow_laplacian"] = jet.laplacian[..., :3]
        return result

    def forward(self, alpha: Tensor, beta: Tensor, points: Tensor) -> dict[str, Tensor]:
        """`evaluate` for codes α (B, A) and β (B, H) at points (B, N, 3)."""
        return self.evaluate(self.weights(beta), alpha, points)


class DeformTemplateField(DeformedTemplate):
    """Signed distance fields of a category's instances: one template T, deformed an instance by a sine network D.

    B instances share the template; the hyper-network materialises their deform weights.

    Deviations from the paper: hidden 128 instead of 256 and omega 15 instead of 30 by default, and a low-rank
    hyper-network (see `hypernet`).

    Args:
        hidden: width of T and D.
        layers: fully connected layers of T and of D.
        omega: sine frequency.
        code_dim: size of the instance code α.
        hyper_code_dim: size of the hyper code β.
        hyper: "low_rank" or "full" (the paper's).
        rank: rank of the low-rank hyper-network.

    Raises:
        ValueError: unknown `hyper`.
    """

    def __init__(
        self,
        hidden: int = 128,
        layers: int = 5,
        omega: float = 15.0,
        code_dim: int = 48,
        hyper_code_dim: int = 48,
        hyper: str = "low_rank",
        rank: int = 8,
    ) -> None:
        super().__init__()
        self.settings = {
            "hidden": hidden,
            "layers": layers,
            "omega": omega,
            "code_dim": code_dim,
            "hyper_code_dim": hyper_code_dim,
            "hyper": hyper,
            "rank": rank,
        }
        self.code_dim = code_dim
        self.hyper_code_dim = hyper_code_dim
        self.omega = omega
        self.n_layers = layers
        self.template_net = Siren(3, 1, hidden, layers, omega)
        sizes = deform_layer_sizes(code_dim, hidden, layers)
        self.hyper: nn.Module
        if hyper == "low_rank":
            self.hyper = LowRankHyperNetwork(hyper_code_dim, sizes, omega, rank)
        elif hyper == "full":
            self.hyper = FullHyperNetwork(hyper_code_dim, sizes, omega)
        else:
            raise ValueError(UNKNOWN_HYPER.format(hyper))

    def template(self, points: Tensor) -> Tensor:
        """T at points (..., 3): (..., 1)."""
        return self.template_net(points)

    def template_layers(self) -> Layers:
        """T's weights."""
        return self.template_net.layers()

    def weights(self, beta: Tensor) -> DeformWeights:
        """Materialised deform weights of B instances from β (B, H), see `DeformedTemplate.weights`."""
        return self.hyper(beta)

    @torch.no_grad()
    def sdf(self, weights: DeformWeights, alpha: Tensor, points: Tensor, chunk: int = 32768) -> Tensor:
        """Signed distance (N,) of ONE instance (B = 1 weights, α (1, A)) at many points (N, 3), without a graph."""
        layers = self._conditioned(weights, alpha)

        def sdf(piece: Tensor) -> Tensor:
            flow, correction = sine_forward(layers, piece.unsqueeze(0), self.omega).split([3, 1], dim=-1)
            return (self.template(piece + flow[0]) + correction[0]).squeeze(-1)

        return in_pieces(sdf, points, chunk) if len(points) else points.new_zeros(0)


def field_sizes(
    hidden: int, layers: int, omega: float, code_dim: int, hyper_code_dim: int, hyper: str, rank: int
) -> dict[str, tuple[int, ...]]:
    """Return name → shape of the parameters by which a `DeformTemplateField` of these arguments grows.

    A file that holds tensors of these shapes is about as large as the field: to build it takes no more memory.

    Raises:
        ValueError: unknown `hyper`, or too few layers.
    """
    if hyper not in ("low_rank", "full"):
        raise ValueError(UNKNOWN_HYPER.format(hyper))
    deform = deform_layer_sizes(code_dim, hidden, layers)
    template = [3, *[hidden] * (layers - 1), 1]
    found: dict[str, tuple[int, ...]] = {
        f"template_net.weight.{i}": (template[i + 1], template[i]) for i in range(layers)
    }
    for i, (fan_in, fan_out) in enumerate(deform):
        if hyper == "full":
            found[f"hyper.nets.{i}.4.bias"] = (fan_out * (fan_in + 1),)
        else:
            found |= {f"hyper.weight.{i}": (fan_out, fan_in), f"hyper.right.{i}": (fan_in, rank)}
    return found
