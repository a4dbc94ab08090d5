"""The activation of a sine layer on a value and its derivatives, as one operation with a gradient of its own.

Autograd alone would keep and add up a tensor for each product, and would copy to split and to join the streams: on a
CPU that moves several times as much memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class SineStreams(torch.autograd.Function):
    """Streams of a layer's linear part, one below another, to those of its sine.

    With z the value and t_d its derivatives along D axes, c its Laplacian: sin z, cos(z) t_d, and
    cos(z) c - sin(z) Σ_d t_d². It can be differentiated once.
    """

    @staticmethod
    def forward(ctx: Any, moved: Tensor, bias: Tensor, n_points: int, laplacian: bool) -> Tensor:
        """Return the streams behind the sine.

        Args:
            ctx: keeps what the gradient needs.
            moved: (..., S N, C), z without its bias, t_1 to t_D and, with `laplacian`, c: S streams of N points.
            bias: of z, (C,) or (B, 1, C).
            n_points: N.
            laplacian: whether c is there.
        """
        result = torch.empty_like(moved)
        value, *slopes = result.split(n_points, dim=-2)
        linear, *tangents = moved.split(n_points, dim=-2)
        phase = linear + bias
        torch.sin(phase, out=value)
        cosine = torch.cos(phase)
        if laplacian:
            curvature = torch.mul(cosine, tangents.pop(), out=slopes.pop())
            curvature -= value * _squares(tangents)
        for tangent, slope in zip(tangents, slopes, strict=True):
            torch.mul(cosine, tangent, out=slope)
        ctx.save_for_backward(moved, result, cosine)
        ctx.known = n_points, laplacian, bias.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `moved` and `bias`, given that of the result."""
        moved, result, cosine = ctx.saved_tensors
        n_points, laplacian, shape = ctx.known
        found = torch.empty_like(moved)
        sine = result.split(n_points, dim=-2)[0]
        _, *tangents = moved.split(n_points, dim=-2)
        given, *slopes = gradient.split(n_points, dim=-2)
        to_value, *to_tangents = found.split(n_points, dim=-2)
        falling = None  # what is multiplied by -sin z
        if laplacian:
            curvature, bent, to_curvature = tangents.pop(), slopes.pop(), to_tangents.pop()
            torch.mul(bent, cosine, out=to_curvature)
            falling = bent * curvature
        for tangent, slope, to_tangent in zip(tangents, slopes, to_tangents, strict=True):
            torch.mul(slope, cosine, out=to_tangent)
            falling = slope * tangent if falling is None else falling.addcmul_(slope, tangent)
        torch.mul(given, cosine, out=to_value)
        if laplacian:
            to_value.addcmul_(to_curvature, _squares(tangents), value=-1.0)
            twice = (bent * sine).mul_(2.0)
            for tangent, to_tangent in zip(tangents, to_tangents, strict=True):
                to_tangent.addcmul_(twice, tangent, value=-1.0)
        if falling is not None:
            to_value.addcmul_(falling, sine, value=-1.0)
        return found, to_value.sum(-2, keepdim=True).sum_to_size(shape), None, None


def _squares(tangents: list[Tensor]) -> Tensor:
    """Return Σ_d t_d²."""
    first, *others = tangents
    total = first.square()
    for tangent in others:
        total.addcmul_(tangent, tangent)
    return total
