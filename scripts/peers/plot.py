"""The plot of the comparison: each network's masks, and what refinement makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..cases.files import whole_file
from ..evaluation.postprocess import LARGEST
from ..evaluation.scoring import REFERENCE
from ..evaluation.summary import Summary

PANELS = {"dsc": "DSC, %", "hd95_mm": "HD95, mm"}
OURS = ("tab:blue", "tab:green")  # one a way to refine
APART = 0.22  # of the lines of a network
DPI = 120


def write_plot(file: Path, summaries: Mapping[str, Mapping[str, Summary]], preset: str) -> None:
    """Write a PNG with a panel a metric: the mean of each network's masks, and a line to that of the refined ones.

    Args:
        file: to write.
        summaries: network → way to refine → means of its masks before and after.
        preset: of the refinement.
    """
    figure = Figure(figsize=(9.0, 1.2 + 0.55 * len(summaries)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (metric, title) in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS.items(), strict=True):
        for row, by_way in enumerate(summaries.values()):
            for number, (way, summary) in enumerate(by_way.items()):
                at = row + APART * (number - (len(by_way) - 1) / 2)
                before, after = summary[REFERENCE, metric]["mean"], summary[preset, metric]
                ends = [
                    [after["difference"] - after["difference_low"]],
                    [after["difference_high"] - after["difference"]],
                ]
                axes.plot([before, after["mean"]], [at, at], color=OURS[number], linewidth=1)
                axes.errorbar(after["mean"], at, xerr=ends, fmt="o", color=OURS[number], capsize=2, label=way)
                axes.plot(before, at, "x", color="black", label="its masks")
                axes.plot(summary[LARGEST, metric]["mean"], at, "|", color="tab:red", label=LARGEST)
        axes.set(xlabel=title)
        axes.grid(axis="x", alpha=0.3)
        axes.set_yticks(range(len(summaries)), list(summaries))
        axes.set_ylim(len(summaries) - 0.5, -0.5)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=len(unique), frameon=False)
    with whole_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
