"""Sine networks (SIREN) as pure functions of their weights, with first derivatives and Laplacians.

A network is a list of (weight, bias) pairs. Weights are either shared, (out, in), or one set an instance,
(B, out, in); the same code serves the template and the batched deform nets a hyper-network predicts.
Derivatives are carried forward through the layers with the values, or backward in a pass that is written out. Either
way leaves an ordinary graph behind: the training loss on gradients then needs no double backpropagation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .sine_streams import SineStreams

Layers = list[tuple[Tensor, Tensor]]
"""(weight (out, in) or (B, out, in), bias (out,) or (B, out)) of every layer, the last one linear."""


@dataclass
class Jet:
    """A map of 3D points with its derivatives.

    Attributes:
        value: (..., N, C).
        gradient: (..., N, C, 3), d value_c / d x_d.
        laplacian: (..., N, C), sum over d of d² value_c / d x_d²; None where it was not asked for.
    """

    value: Tensor
    gradient: Tensor
    laplacian: Tensor | None = None


def sine_init_bound(fan_in: int, omega: float, first: bool) -> float:
    """Half width of SIREN's uniform initialisation: 1/n for the first layer, sqrt(6/n)/omega for the others."""
    return 1.0 / fan_in if first else math.sqrt(6.0 / fan_in) / omega


def _linear(inputs: Tensor, weight: Tensor) -> Tensor:
    """inputs (..., N, in) times weight (out, in) or (B, out, in), without bias."""
    return torch.matmul(inputs, weight.transpose(-1, -2))


def _row(bias: Tensor) -> Tensor:
    """Bias (out,) or (B, out) shaped to add to (..., N, out)."""
    return bias.unsqueeze(-2)


def sine_forward(layers: Layers, points: Tensor, omega: float) -> Tensor:
    """Value of a sine network.

    Args:
        layers: weights; omega multiplies every hidden layer's preactivation, sin(omega (W x + b)).
        points: (..., N, in); (B, N, in) where the weights are one set an instance.
        omega: frequency.

    Returns:
        (..., N, out).
    """
    hidden = points
    for weight, bias in layers[:-1]:
        hidden = torch.sin(_linear(hidden, omega * weight) + omega * _row(bias))
    weight, bias = layers[-1]
    return _linear(hidden, weight) + _row(bias)


def sine_jet(layers: Layers, points: Tensor, omega: float, laplacian: bool = False) -> Jet:
    """Value, gradient and, on request, Laplacian of a sine network with respect to its 3D input.

    For h = sin(z): dh = cos(z) dz and Δh = cos(z) Δz - sin(z) Σ_d (∂_d z)².

    Args:
        layers: weights, see `sine_forward`.
        points: (..., N, 3).
        omega: frequency.
        laplacian: also carry the Laplacian.
    """
    n_points, dimension = points.shape[-2:]
    directions = torch.eye(dimension, dtype=points.dtype, device=points.device)
    streams = [points, *(direction.expand_as(points) for direction in directions)]
    hidden = torch.cat([*streams, torch.zeros_like(points)] if laplacian else streams, dim=-2)
    for weight, bias in layers[:-1]:
        moved = _linear(hidden, omega * weight)
        hidden = SineStreams.apply(moved, omega * (bias if bias.dim() == 1 else _row(bias)), n_points, laplacian)
    weight, bias = layers[-1]
    value, *tangents = _linear(hidden, weight).split(n_points, dim=-2)
    curvature = tangents.pop() if laplacian else None
    return Jet(value + _row(bias), torch.stack(tangents, dim=-1), curvature)


def sine_slope(layers: Layers, points: Tensor, omega: float) -> tuple[Tensor, Tensor]:
    """Value and gradient of a sine network of one channel.

    The gradient is a second pass, from the last layer to the first, written out: half the work of carrying three
    directions forward, and an ordinary graph as well.

    Args:
        layers: weights, see `sine_forward`; the last one has a single row.
        points: (..., N, 3).
        omega: frequency.

    Returns:
        (..., N) and (..., N, 3).
    """
    hidden, cosines = points, []
    for weight, bias in layers[:-1]:
        phase = _linear(hidden, omega * weight) + omega * _row(bias)
        hidden = torch.sin(phase)
        cosines.append(torch.cos(phase))
    weight, bias = layers[-1]
    value, slope = _linear(hidden, weight) + _row(bias), weight
    for (weight, _), cosine in zip(reversed(layers[:-1]), reversed(cosines), strict=True):
        slope = torch.matmul(cosine * slope, omega * weight)
    return value.squeeze(-1), slope


class Siren(nn.Module):
    """Fully connected sine network with weights of its own.

    Args:
        in_features: size of a point.
        out_features: channels of the result.
        hidden: width of the hidden layers.
        layers: number of fully connected layers, the linear last one included.
        omega: frequency of every sine layer.
    """

    def __init__(self, in_features: int, out_features: int, hidden: int, layers: int, omega: float) -> None:
        super().__init__()
        if layers < 2:
            raise ValueError(f"a sine network needs at least 2 layers, not {layers}")
        self.omega = omega
        sizes = [in_features, *[hidden] * (layers - 1), out_features]
        self.weight = nn.ParameterList()
        self.bias = nn.ParameterList()
        for index, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            bound = sine_init_bound(fan_in, omega, first=index == 0)
            self.weight.append(nn.Parameter(torch.empty(fan_out, fan_in).uniform_(-bound, bound)))
            self.bias.append(nn.Parameter(torch.empty(fan_out).uniform_(-1.0, 1.0) / math.sqrt(fan_in) / omega))

    def layers(self) -> Layers:
        """The network's (weight, bias) pairs."""
        return list(zip(self.weight, self.bias, strict=True))

    def forward(self, points: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        flat = sine_forward(self.layers(), points.reshape(-1, points.shape[-1]), self.omega)
        return flat.reshape(*points.shape[:-1], flat.shape[-1])

    def jet(self, points: Tensor, laplacian: bool = False) -> Jet:
        """Value and derivatives at points (..., N, 3)."""
        return sine_jet(self.layers(), points, self.omega, laplacian)
