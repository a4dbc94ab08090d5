"""Adam for the few numbers of a fit, without what PyTorch's own loads at its first use: its compiler, half a second.

Source: Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015, algorithm 1. The operations and their
order are those of `torch.optim.Adam`, so that results are the same bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Adam:
    """Takes steps down the gradients that lie on some tensors.

    Args:
        groups: tensors, changed in place, with the learning rate of each group.
    """

    def __init__(self, groups: Sequence[tuple[Sequence[Tensor], float]]) -> None:
        self.rates = [(tensor, rate) for tensors, rate in groups for tensor in tensors]
        self.means = [torch.zeros_like(tensor) for tensor, _ in self.rates]
        self.squares = [torch.zeros_like(tensor) for tensor, _ in self.rates]
        self.steps = 0

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for tensor, _ in self.rates:
            tensor.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take a step; a tensor without gradient stays."""
        self.steps += 1
        first, second = (1.0 - beta**self.steps for beta in BETAS)
        for (tensor, rate), mean, square in zip(self.rates, self.means, self.squares, strict=True):
            if tensor.grad is None:
                continue
            mean.lerp_(tensor.grad, 1.0 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(tensor.grad, tensor.grad, value=1.0 - BETAS[1])
            tensor.addcdiv_(mean, (square.sqrt() / math.sqrt(second)).add_(EPSILON), value=-rate / first)
