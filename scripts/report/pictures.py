"""Pictures of masks before and after: shaded surfaces, and slices of the image with contours.

Rows are stages (the first is the reference), columns subjects. Surfaces are coloured by their signed distance from the
reference's: red where there is too much, blue where something is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import trimesh
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..cases.files import whole_file
from ..geometry.distance import signed_distance

DEVIATION_COLOURS = ("#1f4fa3", "#7fa6d9", "#e6dccb", "#e8896b", "#b0161c")
DEVIATION = LinearSegmentedColormap.from_list("deviation", DEVIATION_COLOURS)
REFERENCE_COLOUR, STAGE_COLOUR = "#ffd43b", "#22d3ee"
SLICE_MARGIN = 4  # voxels


@dataclass(frozen=True)
class Stage:
    """One state of a shape: its title, its mask (X, Y, Z) bool, and its surface in world mm."""

    title: str
    mask: np.ndarray
    mesh: trimesh.Trimesh


@dataclass(frozen=True)
class Subject:
    """One shape in several states on one grid.

    Attributes:
        name: heads the subject's columns.
        image: (X, Y, Z) intensities on the masks' grid.
        affine: (4, 4) voxel index → world mm.
        stages: its states; the first is the reference.
    """

    name: str
    image: np.ndarray
    affine: np.ndarray
    stages: Sequence[Stage]


@dataclass(frozen=True)
class Camera:
    """An orthographic camera in world coordinates: unit vectors (3,) to the right, up and towards the camera."""

    right: np.ndarray
    up: np.ndarray
    towards: np.ndarray

    @classmethod
    def facing(cls, mesh: trimesh.Trimesh) -> Camera:
        """Return the camera that sees a shape's broad side, its long axis level, from its own side of the body.

        The axes are the shape's principal axes. Left organs (world x < 0) are seen from the left, and up is upwards or,
        for a shape that lies flat, forwards.
        """
        points = mesh.vertices - mesh.vertices.mean(axis=0)
        right, _, towards = np.linalg.svd(points.T @ points)[0].T
        if towards[0] * mesh.vertices.mean(axis=0)[0] < 0:
            towards = -towards
        up = np.cross(towards, right)
        if up[2] + 0.1 * up[1] < 0:
            right, up = -right, -up
        return cls(right, up, towards)

    @classmethod
    def upright(cls, mesh: trimesh.Trimesh) -> Camera:
        """Return the camera that sees a shape's broad side, with z (or y, for a shape that lies flat) upwards.

        It stands right, in front of or above the shape, in RAS+ axes.
        """
        points = mesh.vertices - mesh.vertices.mean(axis=0)
        towards = np.linalg.svd(points.T @ points)[0][:, 2]
        towards = towards * np.sign(towards[np.argmax(np.abs(towards))])
        up = np.eye(3)[1] if np.argmax(np.abs(towards)) == 2 else np.eye(3)[2]
        up = up - (up @ towards) * towards
        up /= np.linalg.norm(up)
        return cls(np.cross(up, towards), up, towards)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return world points (..., 3) as picture coordinates (..., 2) in mm."""
        return points @ np.stack([self.right, self.up], axis=1)


def before_after(path: str | Path, subjects: Sequence[Subject], limit_mm: float = 3.0, dpi: int = 110) -> None:
    """Draw subjects in all their stages.

    Args:
        path: PNG file to write.
        subjects: all with the same number of stages.
        limit_mm: deviation from the reference at which the colours saturate.
        dpi: dots an inch; a row is 2.2 inches high.
    """
    rows, columns = len(subjects[0].stages), 2 * len(subjects)
    reference_title = subjects[0].stages[0].title
    figure = Figure(figsize=(3.2 * columns + 0.9, 2.2 * rows + 0.8), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        rows,
        columns + 1,
        width_ratios=[1.15, 1.0] * len(subjects) + [0.04],
        left=0.035,
        right=0.945,
        bottom=0.075,
        top=0.945,
        hspace=0.05,
        wspace=0.05,
    )
    for number, subject in enumerate(subjects):
        reference = subject.stages[0].mesh
        camera = Camera.facing(reference)
        flat = np.concatenate([camera.project(stage.mesh.vertices) for stage in subject.stages])
        position = _slice_of_interest(subject)
        for row, stage in enumerate(subject.stages):
            axes = figure.add_subplot(grid[row, 2 * number])
            draw_surface(axes, stage.mesh, reference, camera, limit_mm)
            axes.set(
                xlim=(flat[:, 0].min() - 1, flat[:, 0].max() + 1), ylim=(flat[:, 1].min() - 1, flat[:, 1].max() + 1)
            )
            slice_axes = figure.add_subplot(grid[row, 2 * number + 1])
            _draw_slice(slice_axes, subject, stage, position)
            if row == 0:
                axes.set_title(subject.name, fontsize=12, pad=4)
                slice_axes.set_title("sagittal slice", fontsize=12, pad=4)
            if number == 0:
                axes.text(
                    -0.03, 0.5, stage.title, transform=axes.transAxes, rotation=90, va="center", ha="right", size=12
                )
    bar = figure.add_subplot(grid[:, -1])
    colours = ScalarMappable(Normalize(-limit_mm, limit_mm), DEVIATION)
    figure.colorbar(colours, cax=bar, label=f"mm outside (+) or inside (−) the {reference_title} surface")
    lines = [
        Line2D([], [], color=REFERENCE_COLOUR, linestyle="--", label=f"{reference_title}"),
        Line2D([], [], color=STAGE_COLOUR, label=" or ".join(stage.title for stage in subjects[0].stages[1:])),
    ]
    legend = figure.legend(handles=lines, loc="lower center", ncols=2, frameon=True, fontsize=11, facecolor="#555555")
    for text in legend.get_texts():
        text.set_color("white")
    write_png(path, figure, dpi)


def write_png(path: str | Path, figure: Figure, dpi: int) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)


def draw_surface(
    axes: Any, mesh: trimesh.Trimesh, reference: trimesh.Trimesh, camera: Camera, limit_mm: float = 3.0
) -> None:
    """Draw a shaded surface, coloured by its signed distance from the reference.

    Args:
        axes: matplotlib axes; their coordinates become mm.
        mesh: the surface in world mm.
        reference: closed surface in world mm.
        camera: from where it is seen.
        limit_mm: distance at which the colours saturate.
    """
    vertex_mm = np.clip(signed_distance(reference, mesh.vertices), -limit_mm, limit_mm)
    draw_shaded(axes, mesh, DEVIATION((vertex_mm[mesh.faces].mean(axis=1) / limit_mm + 1.0) / 2.0), camera)


def draw_shaded(axes: Any, mesh: trimesh.Trimesh, colours: np.ndarray, camera: Camera) -> None:
    """Draw a shaded surface.

    Args:
        axes: matplotlib axes; their coordinates become mm.
        mesh: the surface in world mm.
        colours: (F, 4) RGBA of the faces, in [0, 1], unshaded.
        camera: from where it is seen.
    """
    colours = colours.copy()
    normals = mesh.vertex_normals[mesh.faces].mean(axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    light = camera.towards + 0.7 * camera.up - 0.4 * camera.right
    diffuse = np.clip(normals @ (light / np.linalg.norm(light)), 0.0, 1.0)
    gloss = np.clip(normals @ (camera.towards + light) / np.linalg.norm(camera.towards + light), 0.0, 1.0) ** 24
    shade = 0.42 + 0.62 * diffuse
    colours[:, :3] = np.clip(colours[:, :3] * shade[:, None] + 0.12 * gloss[:, None], 0.0, 1.0)
    seen = np.flatnonzero(mesh.face_normals @ camera.towards > -0.05)
    order = seen[np.argsort(mesh.triangles_center[seen] @ camera.towards)]  # the nearest are drawn last
    triangles = list(camera.project(mesh.triangles[order]))
    axes.add_collection(PolyCollection(triangles, facecolors=colours[order], edgecolors=colours[order], linewidths=0.3))
    axes.set_aspect("equal")
    axes.set_axis_off()


def _canonical(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return a volume with its axes flipped and swapped to run nearest to right, anterior, superior."""
    return nib.orientations.apply_orientation(volume, nib.io_orientation(affine))


def _slice_of_interest(subject: Subject) -> int:
    """Return the sagittal slice in which much of the shape is seen and the stages differ much from the reference."""
    masks = [_canonical(stage.mask, subject.affine) for stage in subject.stages]
    differing = sum((mask != masks[0]).sum(axis=(1, 2)) for mask in masks[1:])
    return int(np.argmax((differing + 1) * masks[0].sum(axis=(1, 2))))


def _draw_slice(axes: Any, subject: Subject, stage: Stage, position: int) -> None:
    """Draw a sagittal slice of the image with the contours of the reference and of a stage."""
    image = _canonical(subject.image, subject.affine)[position]
    spacing = np.linalg.norm(_canonical_axes(subject.affine), axis=0)
    every = np.any([_canonical(s.mask, subject.affine) for s in subject.stages], axis=(0, 1))
    low, high = np.percentile(image, [1, 99.5])
    axes.imshow(image.T, cmap="gray", origin="lower", vmin=low, vmax=high, aspect=spacing[2] / spacing[1])
    contours = [(subject.stages[0], REFERENCE_COLOUR, "--")]
    contours += [(stage, STAGE_COLOUR, "-")] if stage is not subject.stages[0] else []
    for shown, colour, style in contours:
        mask = _canonical(shown.mask, subject.affine)[position]
        if mask.any():
            axes.contour(mask.T.astype(float), [0.5], colors=colour, linewidths=1.6, linestyles=style)
    for set_limits, line in ((axes.set_xlim, every.any(axis=1)), (axes.set_ylim, every.any(axis=0))):
        shown_voxels = np.flatnonzero(line)
        start, stop = shown_voxels[0] - SLICE_MARGIN, shown_voxels[-1] + SLICE_MARGIN
        set_limits(max(start, 0) - 0.5, min(stop, len(line) - 1) + 0.5)
    axes.set_axis_off()


def _canonical_axes(affine: np.ndarray) -> np.ndarray:
    order = nib.io_orientation(affine)[:, 0].astype(int)
    return affine[:3, :3][:, np.argsort(order)]
