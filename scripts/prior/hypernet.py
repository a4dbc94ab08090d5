"""Hyper-networks: from an instance's hyper code β to the weights of its deform net (Eq. 42, θ = Ψ(β)).

Two kinds share one interface. `FullHyperNetwork` is the paper's: it predicts every weight. `LowRankHyperNetwork` keeps
one set of weights for the category and predicts how an instance modulates it, which is some 50 times smaller and is
what conditioned well on the codes in our measurements; it is the default.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .siren import sine_init_bound

DeformWeights = dict[str, Tensor]
"""Deform weights of B instances: `weight<i>` (B, out_i, in_i) and `bias<i>` (B, out_i) of layers i = 0, 1, ..."""


def deform_layer_sizes(code_dim: int, hidden: int, layers: int) -> list[tuple[int, int]]:
    """(in, out) of the deform net's layers: (point, instance code) to (flow, correction)."""
    if layers < 2:
        raise ValueError(f"the deform net needs at least 2 layers, not {layers}")
    sizes = [3 + code_dim, *[hidden] * (layers - 1), 4]
    return list(zip(sizes[:-1], sizes[1:], strict=True))


def initial_deform_layer(
    fan_in: int, fan_out: int, omega: float, first: bool, last: bool, last_scale: float
) -> tuple[Tensor, Tensor]:
    """SIREN's initial weight (out, in) and bias (out,) of one deform layer.

    In the first layer the point's three columns get the first layer's range as if they stood alone, and the code's
    columns a hidden layer's range. The last layer is scaled down, so that the untrained flow is nearly zero.
    """
    if first:
        bound_code = sine_init_bound(fan_in, omega, first=False)
        weight = torch.empty(fan_out, fan_in).uniform_(-bound_code, bound_code)
        weight[:, :3].uniform_(-1.0 / 3.0, 1.0 / 3.0)
        bias = torch.empty(fan_out).uniform_(-1.0, 1.0) / math.sqrt(3.0) / omega
        return weight, bias
    bound = sine_init_bound(fan_in, omega, first=False) * (last_scale if last else 1.0)
    bias = torch.zeros(fan_out) if last else torch.empty(fan_out).uniform_(-1.0, 1.0) / math.sqrt(fan_in) / omega
    return torch.empty(fan_out, fan_in).uniform_(-bound, bound), bias


def _relu_mlp(sizes: list[int], last_scale: float) -> nn.Sequential:
    """ReLU network with He initialisation, its last layer scaled by `last_scale` and without offset."""
    modules: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        modules.append(linear)
        if index < len(sizes) - 2:
            modules.append(nn.ReLU())
        else:
            with torch.no_grad():
                linear.weight.mul_(last_scale)
    return nn.Sequential(*modules)


class FullHyperNetwork(nn.Module):
    """The paper's Ψ: one 3-layer ReLU MLP per fully connected layer of the deform net predicts all its weights.

    Args:
        hyper_code_dim: size of β.
        sizes: (in, out) of the deform net's layers.
        omega: the deform net's frequency, for its initialisation.
        width: hidden width of the MLPs.
        last_scale: factor on the MLPs' last layers (and on the deform net's last layer) at the start.
    """

    def __init__(
        self,
        hyper_code_dim: int,
        sizes: list[tuple[int, int]],
        omega: float,
        width: int = 256,
        last_scale: float = 0.01,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.nets = nn.ModuleList()
        for index, (fan_in, fan_out) in enumerate(sizes):
            net = _relu_mlp([hyper_code_dim, width, width, fan_out * (fan_in + 1)], last_scale)
            weight, bias = initial_deform_layer(
                fan_in, fan_out, omega, index == 0, index == len(sizes) - 1, last_scale=0.1
            )
            final = net[-1]
            if isinstance(final, nn.Linear):
                with torch.no_grad():
                    final.weight.mul_(float(weight.abs().mean()))
                    final.bias.copy_(torch.cat([weight.flatten(), bias]))
            self.nets.append(net)

    def forward(self, beta: Tensor) -> DeformWeights:
        """β (B, H) to the materialised weights of B instances."""
        weights: DeformWeights = {}
        for index, ((fan_in, fan_out), net) in enumerate(zip(self.sizes, self.nets, strict=True)):
            flat = net(beta)
            weights[f"weight{index}"] = flat[:, : fan_in * fan_out].reshape(-1, fan_out, fan_in)
            weights[f"bias{index}"] = flat[:, fan_in * fan_out :]
        return weights


class LowRankHyperNetwork(nn.Module):
    """Shared deform weights, modulated an instance: W_i = W (1 + g_i) + U diag(r_i) Vᵀ and b_i = b + o_i.

    The gain g_i (per output unit), the r factors of the low-rank term and the bias offset o_i come from β by one small
    ReLU MLP a layer. Deviates from the paper, which predicts whole weight matrices.

    Args:
        hyper_code_dim: size of β.
        sizes: (in, out) of the deform net's layers.
        omega: the deform net's frequency, for its initialisation.
        rank: rank of the additive term.
        width: hidden width of the MLPs.
        last_scale: factor on the MLPs' last layers at the start.
    """

    def __init__(
        self,
        hyper_code_dim: int,
        sizes: list[tuple[int, int]],
        omega: float,
        rank: int = 8,
        width: int = 64,
        last_scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.rank = rank
        self.weight = nn.ParameterList()
        self.bias = nn.ParameterList()
        self.left = nn.ParameterList()
        self.right = nn.ParameterList()
        self.nets = nn.ModuleList()
        for index, (fan_in, fan_out) in enumerate(sizes):
            last = index == len(sizes) - 1
            weight, bias = initial_deform_layer(fan_in, fan_out, omega, index == 0, last, last_scale=0.1)
            self.weight.append(nn.Parameter(weight))
            self.bias.append(nn.Parameter(bias))
            self.left.append(nn.Parameter(torch.randn(fan_out, rank)))
            self.right.append(nn.Parameter(torch.randn(fan_in, rank) * float(weight.std()) / math.sqrt(rank)))
            self.nets.append(_relu_mlp([hyper_code_dim, width, 2 * fan_out + rank], last_scale))

    def forward(self, beta: Tensor) -> DeformWeights:
        """β (B, H) to the materialised weights of B instances."""
        weights: DeformWeights = {}
        for index, (_, fan_out) in enumerate(self.sizes):
            gain, offset, factors = self.nets[index](beta).split([fan_out, fan_out, self.rank], dim=-1)
            low_rank = torch.matmul(self.left[index] * factors.unsqueeze(1), self.right[index].T)
            weights[f"weight{index}"] = self.weight[index] * (1.0 + gain).unsqueeze(-1) + low_rank
            scale = 1.0 / math.sqrt(self.sizes[index][0])
            weights[f"bias{index}"] = self.bias[index] + scale * offset
        return weights
