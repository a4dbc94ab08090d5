"""What the plain way and ours cost against the size of the task, and the plot of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..cases.files import whole_file
from ..prior.prior import ShapePrior
from ..refine.settings import RefineSettings
from .compare import Compared, Task, compare
from .field import field_on_grid
from .stacked import stacked_fit
from .training import PAPER, training_step

POINTS, SHAPES, EDGES = (250, 500, 1000, 2000), (1, 2, 4, 8), (32, 64, 96, 128)
FEW_POINTS = 500  # of each shape, where their number is what grows
DPI = 150


@dataclass(frozen=True)
class Curve:
    """A task of growing size.

    Attributes:
        title: what is done.
        unit: of the sizes.
        tasks: size → the task.
    """

    title: str
    unit: str
    tasks: Mapping[int, Callable[[], Task]]


def curves_of(prior: ShapePrior, alike: Sequence[ShapePrior], settings: RefineSettings) -> list[Curve]:
    """Return what is measured: cost against points and shapes of a training step, voxels, and structures.

    Args:
        prior: whose field is evaluated on grids.
        alike: priors whose structures can be fitted in one stack.
        settings: of that fit.
    """
    few = replace(PAPER, points=FEW_POINTS)
    counts = [n for n in (1, 2, 4) if n < len(alike)] + [len(alike)]
    points = {n: partial(training_step, replace(PAPER, points=n)) for n in POINTS}
    shapes = {n: partial(training_step, replace(few, shapes=n)) for n in SHAPES}
    return [
        Curve(f"training step, {PAPER.shapes} shapes", "points of a shape", points),
        Curve(f"training step, {FEW_POINTS} points of a shape", "shapes", shapes),
        Curve("field on a grid", "voxels", {n**3: partial(field_on_grid, prior, n) for n in EDGES}),
        Curve("fit", "structures", {n: partial(stacked_fit, alike[:n], settings) for n in counts}),
    ]


Measured = Sequence[tuple[Curve, Mapping[int, Compared]]]


def measure(curve: Curve, tick: Callable[[], object] = lambda: None) -> dict[int, Compared]:
    """Return size → what came of the task, each way timed once, after a run that is not timed.

    Raises:
        OtherResult: both ways did not come to the same result.
    """
    return {size: compare(task(), 1, tick) for size, task in curve.tasks.items()}


def write_plot(file: Path, curves: Measured) -> None:
    """Write a PNG: a panel a curve, seconds of the plain way and of ours against the size, both axes logarithmic."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (curve, found) in enumerate(curves, 1):
        axes = figure.add_subplot((len(curves) + 1) // 2, 2, panel)
        sizes = sorted(found)
        axes.loglog(sizes, [found[n].plain_s for n in sizes], "o--", color="tab:red", label="plain")
        axes.loglog(sizes, [found[n].ours_s for n in sizes], "o-", color="tab:blue", label="ours")
        axes.set(title=curve.title, xlabel=curve.unit, ylabel="seconds of the processor")
        axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    with whole_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
