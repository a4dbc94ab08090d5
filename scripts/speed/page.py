"""speed.md: the ratios, and what share of the machine's rates ours reaches."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..evaluation.tables import markdown_table
from .compare import Compared
from .cost import Measured
from .machine import Machine

HEAD = """# How fast is it?

Plain ways to the same result against ours, {repeats} times each by turns, on a machine with {cores} cores, on the CPU,
with one thread. Seconds are the processor's, medians. Ratios can be compared with those of other machines, seconds
cannot.

```bash
{command}
```
"""
RATES = """
## How far is that from what the machine can do?

One thread multiplies matrices at {matrix:.0f} GFLOP/s and copies memory at {memory:.1f} GB/s (the best of {repeats}).
Ours reaches, of the first by its matrix products alone, and of the second by all that its operations read and write, as
if nothing stayed in the processor's caches:
"""
FOOT = """
Sines, cosines and exponentials count for neither. Alignment, distances and counts are not in the table: NumPy does
them, of which nothing is counted. A ratio below 1 says that the plain way is faster here.
"""

PLOT = "speed.png"
COSTS = f"""
## How does the cost grow?

![Seconds of the plain way and of ours against points, shapes, voxels and structures]({PLOT})

A plain field costs as many evaluations as there are voxels; ours those near the surface, and a coarse grid. The
training step is the paper's. Each way was timed once.
"""


def page(command: str, machine: Machine, found: Sequence[Compared], repeats: int, costs: Measured = ()) -> str:
    """Return the page, which shows the plot `PLOT` of the costs beside it."""
    body = [
        [
            one.task.name,
            one.task.plain,
            one.task.ours,
            f"{one.plain_s:.2f}",
            f"{one.ours_s:.2f}",
            f"{one.ratio:.1f}" if one.ratio >= 2 else f"{one.ratio:.2f}",
            f"{one.apart:.1e} {one.task.unit}" if one.apart else f"0 {one.task.unit}",
        ]
        for one in found
    ]
    rates = [
        [
            one.task.name,
            f"{1e-9 * one.work.flop:.1f}",
            f"{100e-9 * one.work.flop / one.ours_s / machine.matrix_gflops:.0f}",
            f"{1e-9 * one.work.moved:.1f}",
            f"{100e-9 * one.work.moved / one.ours_s / machine.memory_gbs:.0f}",
        ]
        for one in found
        if one.work.flop
    ]
    columns = ["what", "plain", "ours", "plain s", "ours s", "times as fast", "results apart by"]
    rate_columns = ["ours", "GFLOP of products", "% of that rate", "GB moved", "% of that rate"]
    text = HEAD.format(command=command, repeats=repeats, cores=os.cpu_count())
    text += "\n" + markdown_table(columns, body) + "\n"
    text += RATES.format(matrix=machine.matrix_gflops, memory=machine.memory_gbs, repeats=repeats)
    text += "\n" + markdown_table(rate_columns, rates) + "\n" + FOOT
    sizes = [
        [f"{curve.title}; {curve.unit}: {size:,}", f"{one.plain_s:.2f}", f"{one.ours_s:.2f}", f"{one.ratio:.1f}"]
        for curve, of in costs
        for size, one in of.items()
    ]
    table = markdown_table(["what", "plain s", "ours s", "times as fast"], sizes)
    return text + COSTS + "\n" + table + "\n"
