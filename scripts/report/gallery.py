"""A gallery of surfaces in the colours of their correspondence, drawn to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..io import whole_file
from .pictures import Camera, draw_shaded

MARGIN_MM = 1.0
WIDTH_INCHES = 9.0
TITLE_INCHES = 0.3


@dataclass(frozen=True)
class Exhibit:
    """One surface of a gallery.

    Attributes:
        title: stands above it.
        mesh: the surface, mm.
        colours: (V, 3) uint8 RGB of its vertices.
        camera: from where it is seen.
    """

    title: str
    mesh: trimesh.Trimesh
    colours: np.ndarray
    camera: Camera


def draw_gallery(path: str | Path, rows: Sequence[Sequence[Exhibit]], title: str = "", dpi: int = 100) -> None:
    """Draw rows of surfaces, each centred in its cell, all to the same scale.

    Args:
        path: PNG file to write, whole or not at all; missing folders are made.
        rows: the exhibits; a short row is filled up with nothing.
        title: stands above all.
        dpi: dots an inch; the picture is 9 inches wide.
    """
    flat = [[exhibit.camera.project(exhibit.mesh.vertices) for exhibit in row] for row in rows]
    sizes = np.array([np.ptp(points, axis=0) for row in flat for points in row]).max(axis=0) + 2 * MARGIN_MM
    columns = max(len(row) for row in rows)
    cell_inches = WIDTH_INCHES / columns * sizes[1] / sizes[0] + TITLE_INCHES
    head = TITLE_INCHES + 0.1 if title else 0.0
    height = cell_inches * len(rows) + head
    figure = Figure(figsize=(WIDTH_INCHES, height), facecolor="white")
    FigureCanvasAgg(figure)
    for row, (exhibits, places) in enumerate(zip(rows, flat, strict=True)):
        for column, (exhibit, points) in enumerate(zip(exhibits, places, strict=True)):
            bottom = 1.0 - (head + (row + 1) * cell_inches) / height
            axes = figure.add_axes(
                (column / columns, bottom, 1 / columns, (cell_inches - TITLE_INCHES) / height), label=f"{row} {column}"
            )
            colours = np.ones((len(exhibit.mesh.faces), 4))
            colours[:, :3] = exhibit.colours[exhibit.mesh.faces].mean(axis=1) / 255.0
            draw_shaded(axes, exhibit.mesh, colours, exhibit.camera)
            middle = (points.min(axis=0) + points.max(axis=0)) / 2.0
            axes.set(xlim=middle[0] + sizes[0] / 2 * np.array([-1, 1]), ylim=middle[1] + sizes[1] / 2 * np.array([-1, 1]))
            axes.set_title(exhibit.title, fontsize=11, pad=3)
    if title:
        figure.suptitle(title, fontsize=12, y=1.0 - 0.1 / height, va="top")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)
