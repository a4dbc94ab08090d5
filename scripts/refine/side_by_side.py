"""Structures of a case that are worked on at the same time, where a process may use several processor cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

One = TypeVar("One")
Other = TypeVar("Other")
AT_ONCE = 2
LARGE_VOXELS = 60_000_000  # of an image, from which on the arrays of two structures would take too much memory


def side_by_side(work: Callable[[One], Other], items: Iterable[One], voxels: int) -> list[Other]:
    """Return what some work makes of each item, in their order; items must not depend on each other.

    NumPy and PyTorch let go of Python's lock while they compute, so threads are enough. A process that may use one core
    (`torch.get_num_threads`), as each of several workers, does one item after another.

    Args:
        work: what is done; it takes about as much memory as the item's part of the image.
        items: in any number.
        voxels: of the image.
    """
    items = list(items)
    threads = 1 if voxels > LARGE_VOXELS else min(AT_ONCE, torch.get_num_threads(), len(items))
    if threads < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))
