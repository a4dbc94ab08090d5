"""What PyTorch computes and moves, counted operation by operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass
class Work:
    """Operations and traffic.

    Attributes:
        flop: floating point operations of matrix products.
        moved: bytes that all operations read and write, as if nothing stayed in the processor's caches.
    """

    flop: float = 0.0
    moved: float = 0.0


class _Traffic(TorchDispatchMode):
    """Adds up the sizes of what operations read and write; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [one for one in tree_leaves((args, kwargs, result)) if isinstance(one, torch.Tensor)]
            self.moved += sum(one.numel() * one.element_size() for one in tensors)
        return result


@contextmanager
def counted() -> Iterator[Work]:
    """Give the work of what is done in the block, known at its end."""
    work, traffic, products = Work(), _Traffic(), FlopCounterMode(display=False)
    with products, traffic:
        yield work
    work.flop, work.moved = float(products.get_total_flops()), float(traffic.moved)
