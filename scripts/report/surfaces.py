"""Surfaces as the page shows them: fewer triangles, and at every vertex how far another surface lies away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import cKDTree
from trimesh.visual import ColorVisuals

from ..cases.mesh import UNCERTAINTY, read_mesh, vertex_numbers
from ..geometry.distance import signed_distance, surface_distance
from ..geometry.surface import mask_to_surface, sample_surface

INITIAL, REFINED, TRUTH = "initial", "refined", "truth"
STAGES = (INITIAL, REFINED, TRUTH)
SMOOTHING_MM = 0.6  # of the masks' surfaces: hides the voxels' steps
FACES = 8000  # a surface
MOVED_POINTS = 5000


@dataclass(frozen=True)
class Surface:
    """One surface of one structure.

    Attributes:
        stage: "initial", "refined" or "truth".
        vertices_world: (V, 3) mm.
        faces: (F, 3) vertex indices.
        moved_mm: (V,) how far the refinement moved the surface here: outward positive, inward negative; None where one
            of the two surfaces is missing, and for the truth.
        error_mm: (V,) signed distance from the true surface: too much positive, missing negative; None without truth.
        place_rgb: (V, 3) uint8, one colour an anatomical place; None where the run wrote no such colours.
        uncertainty_mm: (V,) one standard deviation; None where the run wrote no such numbers.
    """

    stage: str
    vertices_world: np.ndarray
    faces: np.ndarray
    moved_mm: np.ndarray | None = None
    error_mm: np.ndarray | None = None
    place_rgb: np.ndarray | None = None
    uncertainty_mm: np.ndarray | None = None


@dataclass(frozen=True)
class ColouredPoints:
    """Points of a surface, and what is known there.

    Attributes:
        vertices: (N, 3) world mm.
        place_rgb: (N, 3) uint8, the colour of their anatomical place.
        uncertainty_mm: (N,) one standard deviation; None where that was not asked for.
    """

    vertices: np.ndarray
    place_rgb: np.ndarray
    uncertainty_mm: np.ndarray | None = None


def mask_surface(mask: np.ndarray, affine: np.ndarray) -> trimesh.Trimesh | None:
    """Return the surface of a mask (X, Y, Z) bool in world mm; None where nothing is left of it."""
    try:
        return mask_to_surface(mask, affine, smoothing_mm=SMOOTHING_MM)
    except ValueError:  # empty, or a voxel or two
        return None


def display_surfaces(
    meshes: Mapping[str, trimesh.Trimesh | None],
    coloured: ColouredPoints | None = None,
    face_count: int = FACES,
) -> list[Surface]:
    """Thin surfaces out and measure their distances from the full ones.

    Args:
        meshes: stage → closed surface in world mm, or None where there is none.
        coloured: points and what is known there; the refined surface takes that of its nearest.
        face_count: about how many triangles are kept of each.
    """
    initial, refined, truth = (meshes.get(stage) for stage in STAGES)
    surfaces = []
    for stage, mesh in ((INITIAL, initial), (REFINED, refined), (TRUTH, truth)):
        if mesh is None:
            continue
        thin = mesh.simplify_quadric_decimation(face_count=face_count) if len(mesh.faces) > face_count else mesh
        points = np.asarray(thin.vertices)
        moved = error = colours = uncertainty = None
        if stage == INITIAL and refined is not None:
            moved = -signed_distance(refined, points)
        elif stage == REFINED and initial is not None:
            moved = signed_distance(initial, points)
        if stage != TRUTH and truth is not None:
            error = signed_distance(truth, points)
        if stage == REFINED and coloured is not None:
            nearest = cKDTree(coloured.vertices).query(points)[1]
            colours = coloured.place_rgb[nearest]
            uncertainty = None if coloured.uncertainty_mm is None else coloured.uncertainty_mm[nearest]
        surfaces.append(Surface(stage, points, np.asarray(thin.faces), moved, error, colours, uncertainty))
    return surfaces


def moved_figures(initial: trimesh.Trimesh | None, refined: trimesh.Trimesh | None) -> dict[str, float]:
    """Return mean and largest distance in mm of points of the refined surface from the initial one; {} without both."""
    if initial is None or refined is None:
        return {}
    distance_mm = surface_distance(initial, sample_surface(refined, MOVED_POINTS, seed=0)[0])
    return {"moved_mean_mm": float(distance_mm.mean()), "moved_max_mm": float(distance_mm.max())}


def read_coloured(path: Path) -> ColouredPoints | None:
    """Return what a PLY mesh says of its vertices; None where there is no such file or it has no colours."""
    if not path.is_file():
        return None
    mesh = read_mesh(path)
    if not isinstance(mesh.visual, ColorVisuals) or mesh.visual.kind != "vertex":
        return None
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3].astype(np.uint8)
    return ColouredPoints(np.asarray(mesh.vertices), colours, vertex_numbers(mesh, UNCERTAINTY))
