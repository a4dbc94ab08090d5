"""Surfaces that share their faces, smoothed together: as closed as before, and with the volumes they should enclose."""

from __future__ import annotations

import numpy as np
from scipy import sparse

SHARE, STEPS = 0.5, 60  # of the way to the neighbours' mean, forth and back in turn
VOLUME_STEPS = 3


def smooth_complex(
    vertices: np.ndarray, triangles: np.ndarray, sides: np.ndarray, volumes_mm3: np.ndarray, limit_mm: float
) -> np.ndarray:
    """Return the vertices of surfaces that meet, moved so that these are smooth and enclose their volumes.

    They are smoothed without shrinking (Taubin 1995). A vertex between two materials goes towards the mean of its
    neighbours. On a line where more meet it goes towards that of its two neighbours on the line. Where lines end or
    cross it stays.

    Then each material presses on its walls, as gas does in a foam: a vertex moves along its triangles' normals by the
    difference of the pressures on both sides. Which pressures give all volumes is a linear system, but for the
    curvature, which the next steps correct.

    Args:
        vertices: (V, 3) mm.
        triangles: (T, 3) of them.
        sides: (T, 2) the two materials of each triangle; its normal points from the first to the second.
        volumes_mm3: (M,) what the materials 1 to M shall enclose; 0 surrounds them.
        limit_mm: how far one's pressure moves a surface at most in one step, lest a lost part swell others.

    Returns:
        (V, 3) mm.
    """
    pull = _pull(triangles, len(vertices))
    for step in range(STEPS):
        vertices = vertices + (SHARE if step % 2 == 0 else -SHARE) * (pull @ vertices)
    for _ in range(VOLUME_STEPS):
        vertices = vertices + _pressed(vertices, triangles, sides, volumes_mm3, limit_mm)
    return vertices


def _pull(triangles: np.ndarray, count: int) -> sparse.csr_array:
    """Return the matrix (V, V) that takes vertices to how far they are from their neighbours' mean."""
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, uses = np.unique(edges, axis=0, return_counts=True)
    lines = edges[uses > 2]
    on_lines = np.bincount(lines.ravel(), minlength=count)
    edges, lines = (np.concatenate([one, one[:, ::-1]]) for one in (edges, lines))
    edges, lines = edges[on_lines[edges[:, 0]] == 0], lines[on_lines[lines[:, 0]] == 2]
    rows, columns = np.concatenate([edges, lines]).T
    weights = 1.0 / np.bincount(rows, minlength=count)[rows]
    mean = sparse.csr_array((weights, (rows, columns)), shape=(count, count))
    return mean - sparse.dia_array((mean.sum(axis=1)[None], [0]), shape=(count, count))


def _pressed(
    vertices: np.ndarray, triangles: np.ndarray, sides: np.ndarray, volumes_mm3: np.ndarray, limit_mm: float
) -> np.ndarray:
    """Return how far the vertices go (V, 3) in a step towards the volumes."""
    corners = vertices[triangles]
    thirds = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 6.0  # a third of the area long
    areas = np.bincount(triangles.ravel(), np.repeat(np.linalg.norm(thirds, axis=1), 3), len(vertices))
    swept = ((corners.mean(axis=1) - vertices.mean(axis=0)) * thirds).sum(axis=1)
    size = len(volumes_mm3) + 1
    enclosed = np.bincount(sides[:, 0], swept, size) - np.bincount(sides[:, 1], swept, size)
    places = np.broadcast_to(3 * triangles[..., None] + np.arange(3), (len(triangles), 3, 3)).ravel()
    growth = np.broadcast_to(thirds[:, None], (len(triangles), 3, 3)).ravel()
    slopes = [sparse.csr_array((growth, (np.repeat(side, 9), places)), (size, vertices.size)) for side in sides.T]
    slope = (slopes[0] - slopes[1])[1:]  # of the volumes, by the vertices' coordinates
    moved = slope @ sparse.dia_array((np.repeat(1.0 / areas, 3)[None], [0]), shape=(vertices.size, vertices.size))
    pressures = np.linalg.lstsq((moved @ slope.T).toarray(), volumes_mm3 - enclosed[1:], rcond=None)[0]
    return (pressures.clip(-limit_mm, limit_mm) @ moved).reshape(-1, 3)
