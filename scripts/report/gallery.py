"""A gallery of surfaces in the colours of their correspondence, drawn to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .pictures import Camera, draw_shaded, write_png

MARGIN_MM = 1.0
CELL_INCHES = np.array([2.8, 2.4])  # at most, width and height
LEAST_CELL_INCHES = np.array([1.9, 1.0])  # titles want some room
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


def draw_gallery(path: str | Path, rows: Sequence[Sequence[Exhibit]], title: str = "", dpi: int = 90) -> None:
    """Draw rows of surfaces, each centred in its cell, all to the same scale.

    Args:
        path: PNG file to write, whole or not at all; missing folders are made.
        rows: the exhibits; a short row is filled up with nothing.
        title: stands above all.
        dpi: dots an inch.
    """
    flat = [[exhibit.camera.project(exhibit.mesh.vertices) for exhibit in row] for row in rows]
    sizes = np.array([np.ptp(points, axis=0) for row in flat for points in row]).max(axis=0) + 2 * MARGIN_MM
    scale = (CELL_INCHES / sizes).min()
    cell = np.maximum(sizes * scale, LEAST_CELL_INCHES)
    pitch = cell + (0.0, TITLE_INCHES)
    total = pitch * (max(len(row) for row in rows), len(rows)) + (0.0, TITLE_INCHES if title else 0.0)
    figure = Figure(figsize=tuple(total), facecolor="white")
    FigureCanvasAgg(figure)
    for row, (exhibits, places) in enumerate(zip(rows, flat, strict=True)):
        for column, (exhibit, points) in enumerate(zip(exhibits, places, strict=True)):
            corner = pitch * (column, len(rows) - 1 - row)
            axes = figure.add_axes((*(corner / total), *(cell / total)))
            colours = np.ones((len(exhibit.mesh.faces), 4))
            colours[:, :3] = exhibit.colours[exhibit.mesh.faces].mean(axis=1) / 255.0
            draw_shaded(axes, exhibit.mesh, colours, exhibit.camera)
            middle = (points.min(axis=0) + points.max(axis=0)) / 2.0
            lower, upper = middle - cell / scale / 2.0, middle + cell / scale / 2.0
            axes.set(xlim=(lower[0], upper[0]), ylim=(lower[1], upper[1]))
            axes.set_title(exhibit.title, fontsize=10, pad=3)
    if title:
        figure.suptitle(title, fontsize=12, y=1.0 - 0.08 / total[1], va="top")
    write_png(path, figure, dpi)
