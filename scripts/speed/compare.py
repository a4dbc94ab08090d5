"""A plain way and ours for the same result, timed in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from .counted import Work, counted


class OtherResult(ValueError):
    """Both ways did not come to the same result: their times say nothing."""


@dataclass(frozen=True)
class Task:
    """Something that can be done in two ways.

    Attributes:
        name: what is done.
        plain: how the reference does it, in words.
        ours: how we do it, in words.
        run_plain, run_ours: do it once; what they return goes into `differs`.
        differs: (result of the reference, ours) → how far apart they are.
        most: so far they may be apart.
        unit: of that, in words.
    """

    name: str
    plain: str
    ours: str
    run_plain: Callable[[], Any]
    run_ours: Callable[[], Any]
    differs: Callable[[Any, Any], float]
    most: float
    unit: str


@dataclass(frozen=True)
class Compared:
    """What came of a task.

    Attributes:
        task: the task.
        plain_s, ours_s: medians of the seconds of the processor.
        apart: how far apart both results are, in the task's unit.
        work: what ours computes, as PyTorch sees it.
    """

    task: Task
    plain_s: float
    ours_s: float
    apart: float
    work: Work

    @property
    def ratio(self) -> float:
        """How many times as fast ours is."""
        return self.plain_s / self.ours_s


def compare(task: Task, repeats: int, tick: Callable[[], object] = lambda: None) -> Compared:
    """Do a task in both ways, by turns, so that a machine that grows slower does so for both.

    Seconds are those of the processor, of all threads: what other programs take of it does not count.

    Args:
        task: the task; a first run of each way, which is not timed, is compared.
        repeats: how often each way is timed.
        tick: called after each timed run.

    Raises:
        OtherResult: both ways did not come to the same result.
    """
    with counted() as work:
        ours = task.run_ours()
    apart = task.differs(task.run_plain(), ours)
    if not apart <= task.most:
        raise OtherResult(f"{task.name}: the results are {apart:.3g} {task.unit} apart, more than {task.most:g}")
    seconds: dict[Callable[[], Any], list[float]] = {task.run_plain: [], task.run_ours: []}
    for _ in range(repeats):
        for run, found in seconds.items():
            begun = time.process_time()
            run()
            found.append(time.process_time() - begun)
            tick()
    return Compared(task, median(seconds[task.run_plain]), median(seconds[task.run_ours]), apart, work)
