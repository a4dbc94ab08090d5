"""Plots of an evaluation: box plots of every method, and how each case fares from method to method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..cases.files import whole_file

METRICS = {"dsc": "DSC, %", "nsd": "NSD, %", "hd95_mm": "HD95, mm", "assd_mm": "ASSD, mm"}
PAIRED = ("dsc", "hd95_mm")
ENDINGS = ("png", "svg")
DPI = 150

Row = Mapping[str, Any]


def write_plots(folder: Path, rows: Sequence[Row]) -> None:
    """Write `boxes` and `paired`, each as PNG and SVG.

    Args:
        folder: where the files go.
        rows: scores, one a case, structure and method.
    """
    for name, figure in (("boxes", box_plots(rows)), ("paired", paired_plots(rows))):
        for ending in ENDINGS:
            with whole_file(folder / f"{name}.{ending}") as temporary, mpl.rc_context({"svg.hashsalt": name}):
                metadata = {"Date": None} if ending == "svg" else None  # the same scores give the same file
                figure.savefig(temporary, format=ending, dpi=DPI, metadata=metadata)


def box_plots(rows: Sequence[Row]) -> Figure:
    """Return a panel a metric: for every structure a box a method, and every case as a point."""
    structures, methods = _names(rows, "structure"), _names(rows, "method")
    figure = _figure(max(6.0, 1.5 + 0.35 * len(structures) * (len(methods) + 1)), 3.0 * len(METRICS))
    panels = figure.subplots(len(METRICS), 1, sharex=True)
    width = 0.8 / len(methods)
    colours = _colours(methods)
    for axes, (metric, title) in zip(panels, METRICS.items(), strict=True):
        for n, method in enumerate(methods):
            for place, structure in enumerate(structures):
                values = _values(rows, structure, method, metric)
                at = place + (n - (len(methods) - 1) / 2) * width
                if not values.size:
                    continue
                box = axes.boxplot(values, positions=[at], widths=0.8 * width, patch_artist=True, showfliers=False)
                box["boxes"][0].set(facecolor=colours[method], alpha=0.5)
                box["medians"][0].set_color("black")
                axes.plot(np.full(values.shape, at), values, ".", color=colours[method], markersize=3)
        axes.set(ylabel=title)
        axes.set_xticks(range(len(structures)), structures, rotation=0 if len(structures) < 5 else 30)
        axes.grid(axis="y", alpha=0.3)
    handles = [mpl.patches.Patch(facecolor=colours[method], alpha=0.5, label=method) for method in methods]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(methods), 4), frameon=False)
    return figure


def paired_plots(rows: Sequence[Row]) -> Figure:
    """Return a column a structure, DSC above and HD95 below: a line a case, from method to method."""
    structures, methods = _names(rows, "structure"), _names(rows, "method")
    figure = _figure(max(4.0, (1.2 + 0.7 * len(methods)) * len(structures)), 7.0)
    panels = figure.subplots(len(PAIRED), len(structures), sharex=True, squeeze=False)
    colours = _colours(methods)
    for line, metric in zip(panels, PAIRED, strict=True):
        for axes, structure in zip(line, structures, strict=True):
            found = {(row["case"], row["method"]): row[metric] for row in rows if row["structure"] == structure}
            cases = _names([row for row in rows if row["structure"] == structure], "case")
            table = np.array([[found.get((case, method), np.nan) for method in methods] for case in cases], float)
            axes.plot(table.T, color="0.6", linewidth=0.7)
            for n, method in enumerate(methods):
                axes.plot(np.full(len(table), n), table[:, n], "o", color=colours[method], markersize=4)
            axes.set_xticks(range(len(methods)), methods, rotation=30, ha="right")
            axes.margins(x=0.15)
            axes.grid(axis="y", alpha=0.3)
            axes.set_title(structure if metric == PAIRED[0] else "")
        line[0].set_ylabel(METRICS[metric])
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(min(width, 60.0), height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _names(rows: Sequence[Row], key: str) -> list[str]:
    return list(dict.fromkeys(str(row[key]) for row in rows))


def _colours(methods: Sequence[str]) -> dict[str, Any]:
    return {method: mpl.colormaps["tab10"](n % 10) for n, method in enumerate(methods)}


def _values(rows: Sequence[Row], structure: str, method: str, metric: str) -> np.ndarray:
    chosen = [row[metric] for row in rows if (row["structure"], row["method"]) == (structure, method)]
    values = np.array(chosen, dtype=float)
    return values[~np.isnan(values)]
