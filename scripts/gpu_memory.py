"""What is done when a GPU is out of memory: the same in smaller pieces, and at last on the CPU."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

HALVINGS = 4  # of the pieces
CPU = torch.device("cpu")
Result = TypeVar("Result")


def in_pieces(evaluate: Callable[[Tensor], Tensor], points: Tensor, size: int) -> Tensor:
    """Evaluate points (N, ...) piece by piece: (N, ...).

    Args:
        evaluate: points (M, ...) → (M, ...).
        points: N of them, one at least.
        size: of a piece; halved, `HALVINGS` times at most, each time a GPU is out of memory.

    Raises:
        torch.OutOfMemoryError: the smallest pieces are too large.
    """
    *larger, smallest = _sizes(size)
    for most in larger:
        try:
            return torch.cat([evaluate(piece) for piece in points.split(most)])
        except torch.OutOfMemoryError:
            pass  # what it held is free when the error is
        release()
    return torch.cat([evaluate(piece) for piece in points.split(smallest)])


def with_less(act: Callable[[torch.device, int], Result], device: torch.device, size: int, what: str) -> Result:
    """Do something on a GPU; each time that is out of memory, in pieces half as large; at last on the CPU.

    Args:
        act: (where, size of a piece) → the result.
        device: where it is tried first.
        size: of a piece at first, and on the CPU.
        what: is done, in words, for the log.
    """
    for largest in _sizes(size):
        try:
            return act(device, largest)
        except torch.OutOfMemoryError:
            pass  # as above
        release()
    to_cpu(what)
    return act(CPU, size)


def to_cpu(what: str) -> None:
    """Say that something is done on the CPU, since the GPU is out of memory; give back what that still holds."""
    release()
    logger.warning(f"the GPU is out of memory: {what} on the CPU")


def release() -> None:
    """Give back what PyTorch holds of a GPU's memory for later use."""
    gc.collect()
    torch.cuda.empty_cache()


def _sizes(size: int) -> list[int]:
    return list(dict.fromkeys(max(size >> halved, 1) for halved in range(HALVINGS + 1)))
