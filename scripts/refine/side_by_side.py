"""Structures of a case that are worked on at the same time, where a process may use several processor cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain, islice
from typing import TypeVar

import torch

One = TypeVar("One")
Other = TypeVar("Other")
AT_ONCE = 2
LARGE_VOXELS = 20_000_000  # of an item, from which on the arrays of two would take too much memory
ORGAN_SHARE = 8  # the box of an organ, not known yet, is taken for this part of the image


def side_by_side(work: Callable[[One], Other], items: Iterable[One], voxels: int) -> list[Other]:
    """Return what some work makes of each item, in their order; items must not depend on each other.

    NumPy and PyTorch let go of Python's lock while they compute, so threads are enough. A process that may use one core
    (`torch.get_num_threads`), as each of several workers, does one item after another. After an error no more is begun.

    Args:
        work: what is done.
        items: in any number; each is taken only when its turn is near, since masks of a whole image are large.
        voxels: of the largest item's box.
    """
    coming = iter(items)
    threads = 1 if voxels > LARGE_VOXELS else min(AT_ONCE, torch.get_num_threads())
    first = [] if threads < 2 else list(islice(coming, 2))
    if len(first) < 2:
        return [work(item) for item in chain(first, coming)]
    coming = chain(iter(first), coming)
    del first  # what is done is not held any longer
    begun: list[Future[Other]] = []
    running: set[Future[Other]] = set()
    with ThreadPoolExecutor(threads) as pool:
        for item in coming:
            if len(running) == threads:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                if any(one.exception() for one in done):
                    break
            begun.append(pool.submit(work, item))
            running.add(begun[-1])
        return [one.result() for one in begun]
