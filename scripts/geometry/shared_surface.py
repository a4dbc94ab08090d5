"""Closed surfaces of structures that touch, which share their faces where they do.

Marching tetrahedra of several materials (after Nielson and Franke 1997): each cube of the grid is cut into six
tetrahedra, and each corner belongs to the structure that it lies deepest in. Between corners of two structures there is
a vertex where both lie equally deep; where three or four meet, one in the triangle or the tetrahedron. So each
structure's surface is closed, without edges of more than two triangles, and its triangles to a neighbour are the
neighbour's, turned round.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, permutations
from types import MappingProxyType

import numpy as np
import trimesh
from scipy import ndimage

from .affine import apply_affine, check_affine, spacing_mm, voxel_volume_mm3
from .boxed import Box, BoxedMask
from .smooth_complex import smooth_complex
from .surface import mask_signed_distance, meshing_mm

MOST_POINTS = 4_000_000  # of the grid that is meshed
SMOOTH_MM = 0.5  # standard deviation on the distances
LIMIT_MM = 8.0  # of distances
NEAREST = 0.1  # of a grid's edge: a vertex lies that far from both ends at least, so that no triangle is too thin
PAIRS = list(combinations(range(4), 2))
NONE_KNOWN: Mapping[str, tuple[Box, np.ndarray]] = MappingProxyType({})
Polygon = tuple[list[tuple[int, ...]], tuple[int, int]]  # nodes, and the corners on its two sides


def shared_surfaces(
    masks: Mapping[str, BoxedMask],
    affine: np.ndarray,
    distances: Mapping[str, tuple[Box, np.ndarray]] = NONE_KNOWN,
    step_mm: float | None = None,
) -> tuple[dict[str, trimesh.Trimesh], float]:
    """Return the surfaces of structures of one label map.

    Args:
        masks: name → mask, of one grid, not overlapping.
        affine: (4, 4) voxel → world mm.
        distances: name → a box of the grid and signed distances (x, y, z) there in mm, negative inside, of which the
            mask was made. They count where they are of the mask's side; elsewhere the distance from the mask does.
        step_mm: spacing of the grid that is meshed, None for `meshing_mm`; more where that has too many points.

    Returns:
        Name → watertight smooth mesh in world mm, normals outward, with its mask's volume. Where two touch, both have
        the same triangles, with the same vertices to the last bit, of opposite orientation. A structure of which
        nothing is left on the grid that is meshed has none. And the spacing of that grid, mm.
    """
    matrix, names = check_affine(affine), [name for name, mask in masks.items() if mask.part.any()]
    step_mm = meshing_mm(matrix) if step_mm is None else step_mm
    if not names:
        return {}, step_mm
    spacing = spacing_mm(matrix)
    start = np.min([[side.start for side in masks[name].box] for name in names], axis=0) - 2
    size = np.max([[side.stop for side in masks[name].box] for name in names], axis=0) + 2 - start
    step = max(step_mm, float(np.cbrt(((size - 1) * spacing).prod() / MOST_POINTS)))
    counts = np.maximum(np.rint((size - 1) * spacing / step).astype(int) + 1, 2)
    ratio = (size - 1) / (counts - 1)
    fields = np.zeros((len(names) + 1, *counts), np.float32)  # the first is what surrounds them
    nearest = np.full(tuple(size), LIMIT_MM, np.float32)
    for number, name in enumerate([*names, ""], 1):
        own = -nearest if not name else _signed(masks[name], start, size, spacing, distances.get(name))
        nearest = np.minimum(nearest, own)
        fine = ndimage.zoom(own, counts / size, order=1, grid_mode=False)
        fields[number % len(fields)] = ndimage.gaussian_filter(fine, SMOOTH_MM / (spacing * ratio))
    points, triangles, sides = interfaces(fields)
    world = apply_affine(matrix, points * ratio + start)
    if np.linalg.det(matrix[:3, :3]) < 0:
        triangles = triangles[:, ::-1]
    volumes_mm3 = np.array([masks[name].count for name in names]) * voxel_volume_mm3(matrix)
    world = smooth_complex(world, triangles, sides, volumes_mm3, 0.5 * step)
    found = {}
    for number, name in enumerate(names, 1):
        own = np.concatenate([triangles[sides[:, 0] == number], triangles[sides[:, 1] == number][:, ::-1]])
        if len(own):
            used, faces = np.unique(own, return_inverse=True)
            found[name] = trimesh.Trimesh(world[used], faces.reshape(own.shape), process=False)
    return found, step


def _signed(
    mask: BoxedMask, start: np.ndarray, size: np.ndarray, spacing: np.ndarray, known: tuple[Box, np.ndarray] | None
) -> np.ndarray:
    """Return a structure's signed distance (X, Y, Z) in mm in a box of the grid, from `start` on, of that size."""
    placed = np.zeros(tuple(size), bool)
    placed[tuple(slice(s.start - o, s.stop - o) for s, o in zip(mask.box, start, strict=True))] = mask.part
    signed = mask_signed_distance(placed, spacing, LIMIT_MM)
    if known is not None:
        box, values = known
        low = [max(side.start, o) for side, o in zip(box, start, strict=True)]
        high = [min(side.stop, o + n) for side, o, n in zip(box, start, size, strict=True)]
        here, there = (
            tuple(slice(a - o, max(a, b) - o) for a, b, o in zip(low, high, origin, strict=True))
            for origin in (start, [side.start for side in box])
        )
        agree = (values[there] < 0) == placed[here]
        signed[here][agree] = values[there][agree].clip(-LIMIT_MM, LIMIT_MM)
    return signed


def interfaces(fields: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the surfaces between the materials of a grid; a point belongs to that of the least value.

    Args:
        fields: (M, X, Y, Z) of each material.

    Returns:
        Vertices (V, 3) in grid indices, triangles (T, 3) of them, and the two materials of each triangle (T, 2): the
        normal points from the first to the second.
    """
    shape = np.array(fields.shape[1:])
    label = fields.argmin(axis=0)
    corners = _mixed_tetrahedra(label)
    flat, label = fields.reshape(len(fields), -1), label.ravel()
    order = np.argsort(label[corners], axis=1, kind="stable")
    corners = np.take_along_axis(corners, order, axis=1)
    own = label[corners]
    same = own[:, 1:] == own[:, :-1]
    pieces: list[tuple[np.ndarray, list[tuple[int, ...]], tuple[int, int]]] = []
    for pattern, polygons in _polygons().items():
        chosen = corners[(same == pattern).all(axis=1)]
        pieces += [(chosen, polygon, pair) for polygon, pair in polygons if len(chosen)]
    keys = [np.sort(chosen[:, list(node)], axis=1) for chosen, polygon, _ in pieces for node in polygon]
    rows = np.concatenate([np.pad(key, ((0, 0), (0, 4 - key.shape[1])), constant_values=-1) for key in keys])
    nodes, index = np.unique(rows, axis=0, return_inverse=True)
    numbers = iter(np.split(index.ravel(), np.cumsum([len(key) for key in keys])[:-1]))
    position = np.stack(np.unravel_index(np.arange(label.size), shape), axis=1).astype(np.float32)
    points, middles = _places(nodes, flat, label, position)
    triangles, sides = [], []
    for chosen, polygon, (one, other) in pieces:
        ring = np.stack([next(numbers) for _ in polygon], axis=1)
        towards = position[chosen[:, other]] - position[chosen[:, one]]
        for k in range(1, len(polygon) - 1):
            corner = ring[:, [0, k, k + 1]]
            a, b, c = (middles[corner[:, i]] for i in range(3))
            turned = (np.cross(b - a, c - a) * towards).sum(axis=1) < 0
            triangles.append(np.where(turned[:, None], corner[:, ::-1], corner))
            sides.append(label[chosen[:, [one, other]]])
    return points, np.concatenate(triangles), np.concatenate(sides)


def _mixed_tetrahedra(label: np.ndarray) -> np.ndarray:
    """Return the corners (N, 4), flat indices, of the tetrahedra that hold several materials (Kuhn's six of a cube)."""
    steps = np.array([label.shape[1] * label.shape[2], label.shape[2], 1])
    flat = label.ravel()
    first = np.arange(label.size).reshape(label.shape)[:-1, :-1, :-1].ravel()
    mixed = np.zeros(len(first), bool)
    for corner in np.ndindex(2, 2, 2):
        mixed |= flat[first + int(corner @ steps)] != flat[first]
    first = first[mixed]
    found = []
    for path in permutations(range(3)):
        corners = first[:, None] + np.r_[0, np.cumsum(steps[list(path)])]
        own = flat[corners]
        found.append(corners[(own != own[:, :1]).any(axis=1)])
    return np.concatenate(found)


def _polygons() -> dict[tuple[bool, ...], list[Polygon]]:
    """Return how materials part a tetrahedron whose corners are sorted by material.

    Returns:
        Which corners have the material of the next one → polygons and the corners on their two sides. A polygon's
        nodes are edges, triangles or the whole, as corners.
    """
    alone_first: list[Polygon] = [([(0, 1), (0, 2), (0, 3)], (0, 1))]
    alone_last: list[Polygon] = [([(0, 3), (1, 3), (2, 3)], (0, 3))]
    twos: list[Polygon] = [([(0, 2), (0, 3), (1, 3), (1, 2)], (0, 2))]
    found: dict[tuple[bool, ...], list[Polygon]] = {
        (False, True, True): alone_first,
        (True, True, False): alone_last,
        (True, False, True): twos,
    }
    for pattern, (a, d), b, c in (
        ((True, False, False), (0, 1), 2, 3),
        ((False, True, False), (1, 2), 0, 3),
        ((False, False, True), (2, 3), 0, 1),
    ):
        found[pattern] = [([(a, x), (d, x), (d, b, c), (a, b, c)], (min(a, x), max(a, x))) for x in (b, c)]
        found[pattern].append(([(b, c), (a, b, c), (d, b, c)], (b, c)))
    found[False, False, False] = []
    for i, j in PAIRS:
        k, m = (one for one in range(4) if one not in (i, j))
        found[False, False, False].append(([(i, j), (i, j, k), (0, 1, 2, 3), (i, j, m)], (i, j)))
    return found


def _places(
    nodes: np.ndarray, fields: np.ndarray, label: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where the nodes (V, 4) lie, corners and -1 for none, and the middles of their corners: (V, 3) each.

    A node of an edge lies where both materials are equally deep; one of several edges in the middle of those.
    """
    there = (nodes >= 0)[..., None]
    middles = (position[nodes] * there).sum(axis=1) / there.sum(axis=1)
    points, weights = np.zeros_like(middles), np.zeros(len(nodes), np.float32)
    for i, j in PAIRS:
        both = np.flatnonzero((nodes[:, i] >= 0) & (nodes[:, j] >= 0))
        a, b = nodes[both, i], nodes[both, j]
        here, beyond = fields[label[b], a] - fields[label[a], a], fields[label[a], b] - fields[label[b], b]
        share = (here / np.maximum(here + beyond, 1e-6)).clip(NEAREST, 1.0 - NEAREST)[:, None]
        points[both] += position[a] * (1 - share) + position[b] * share
        weights[both] += 1
    return points / weights[:, None], middles
