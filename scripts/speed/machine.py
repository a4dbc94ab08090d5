"""What the machine can do at most: the limits that all ways share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

EDGE = 1024  # of the matrices
COPIED = 1 << 26  # numbers of a copy, far more than any cache holds


@dataclass(frozen=True)
class Machine:
    """Rates of one thread, in float32, of the processor's time.

    Attributes:
        matrix_gflops: of products of square matrices, 10⁹ floating point operations a second.
        memory_gbs: of copies, 10⁹ bytes read and written a second.
    """

    matrix_gflops: float
    memory_gbs: float

    @classmethod
    def measured(cls, repeats: int) -> Machine:
        """Measure both, the best of so many repeats."""
        left, right = torch.rand(EDGE, EDGE), torch.rand(EDGE, EDGE)
        product = torch.empty(EDGE, EDGE)
        source, target = torch.rand(COPIED), torch.empty(COPIED)
        matrix_s = _least(lambda: torch.matmul(left, right, out=product), repeats)
        memory_s = _least(lambda: target.copy_(source), repeats)
        return cls(2e-9 * EDGE**3 / matrix_s, 2e-9 * source.numel() * source.element_size() / memory_s)


def _least(run: Callable[[], object], repeats: int) -> float:
    """Return the least seconds that something took; its first run is not counted."""
    run()
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        run()
        seconds.append(time.process_time() - begun)
    return min(seconds)
