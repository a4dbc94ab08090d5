"""Surfaces that share their faces: closed, coincident where structures touch, and near the true shapes."""

import numpy as np
import pytest

from scripts.geometry.boxed import BoxedMask
from scripts.geometry.shared_surface import interfaces, shared_surfaces

AFFINES = {
    "plain": np.eye(4),
    "mirrored": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "oblique": np.array([[0.9, -0.3, 0.1, 5.0], [0.3, 0.8, 0.0, -4.0], [0.0, 0.1, 1.5, 9.0], [0, 0, 0, 1]]),
}


def sectors(count):
    """A ball of radius 10 mm in so many sectors that meet in its axis; its lower half is one more."""
    index = np.stack(np.meshgrid(*[np.arange(26)] * 3, indexing="ij"), -1) - 12.4
    angle = np.arctan2(index[..., 1], index[..., 0]) + np.pi
    label = np.where(index[..., 2] < 0, count + 1, 1 + np.floor(angle / (2 * np.pi) * count).clip(0, count - 1))
    return np.where(np.linalg.norm(index, axis=-1) < 10.0, label, 0).astype(int)


def meshes_of(label_map, affine):
    masks = {str(label): BoxedMask.of(label_map == label) for label in np.unique(label_map[label_map > 0])}
    return shared_surfaces(masks, affine)[0]


def keys(mesh):
    """The triangles as their corners in world mm, from the least corner on, so that orientation is kept."""
    rows = []
    for corners in np.asarray(mesh.vertices)[np.asarray(mesh.faces)]:
        points = [tuple(corner) for corner in corners]
        first = points.index(min(points))
        rows.append(tuple(points[first:] + points[:first]))
    return set(rows)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("count", [1, 3])
def test_surfaces_are_closed_and_coincide_where_they_touch(affine, count):
    label_map = sectors(count)
    meshes = meshes_of(label_map, affine)
    assert list(meshes) == [str(one) for one in range(1, count + 2)]
    for mesh in meshes.values():
        assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    for name, mesh in meshes.items():
        others = set().union(*(keys(other) for key, other in meshes.items() if key != name))
        turned = {(one, last, second) for one, second, last in keys(mesh)}
        shared = turned & others
        assert len(shared) > 100 and not keys(mesh) & others
        alone = {corner for triangle in turned - others for corner in triangle}
        centre = affine[:3, :3] @ np.full(3, 12.4) + affine[:3, 3]
        inner = np.linalg.norm(np.linalg.solve(affine[:3, :3], (np.array(list(alone)) - centre).T), axis=0)
        assert inner.min() > 8.0  # all of the inner walls are shared: only the ball's own surface is not
    for name, mesh in meshes.items():
        voxels = np.count_nonzero(label_map == int(name)) * abs(np.linalg.det(affine[:3, :3]))
        assert mesh.volume == pytest.approx(voxels, rel=0.002)


def test_a_ball_alone_lies_where_it_is():
    index = np.stack(np.meshgrid(*[np.arange(30)] * 3, indexing="ij"), -1) - 14.3
    (mesh,) = meshes_of((np.linalg.norm(index, axis=-1) < 11.0).astype(int), np.eye(4)).values()
    away = np.linalg.norm(np.asarray(mesh.vertices) - 14.3, axis=1) - 11.0
    assert np.abs(away).max() < 0.6 and abs(away.mean()) < 0.1
    assert (np.einsum("ij,ij->i", mesh.face_normals, mesh.triangles_center - 14.3) > 0).all()


def test_known_distances_count_before_those_of_voxels():
    """A ball in halves, of which the distances are known but for a corner, where they contradict the mask."""
    index = np.stack(np.meshgrid(*[np.arange(30)] * 3, indexing="ij"), -1) - 14.3
    ball = np.linalg.norm(index, axis=-1) - 11.0
    exact = {"one": np.maximum(ball, index[..., 0] - 0.2), "two": np.maximum(ball, 0.2 - index[..., 0])}
    masks = {name: BoxedMask.of(field < 0) for name, field in exact.items()}
    exact["one"][:8, :8, :8] = -3.0
    box = tuple(slice(1, 30) for _ in range(3))
    known = {name: (box, field[box]) for name, field in exact.items()}
    plain, better = shared_surfaces(masks, np.eye(4))[0], shared_surfaces(masks, np.eye(4), known)[0]
    for name in exact:
        away = [_from_halves(mesh[name], 1.0 if name == "two" else -1.0) for mesh in (plain, better)]
        assert away[1].mean() < 0.05 < away[0].mean() and np.percentile(away[1], 99) < 0.3


def _from_halves(mesh, side):
    """How far vertices lie from the half of a ball of 11 mm around 14.3, cut at 0.2 mm beyond its middle: (V,)."""
    points = np.asarray(mesh.vertices) - 14.3
    inside = np.maximum(np.linalg.norm(points, axis=1) - 11.0, side * (0.2 - points[:, 0]))
    return np.abs(inside)


def test_voxels_at_random_have_closed_surfaces_too():
    """Each way in which four materials can meet, and voxels that touch at edges and corners."""
    fields = np.random.default_rng(0).normal(size=(5, 8, 8, 8))
    fields[0, [0, -1]] = fields[0, :, [0, -1]] = fields[0, :, :, [0, -1]] = -9.0
    points, triangles, sides = interfaces(fields)
    assert (sides[:, 0] < sides[:, 1]).all() and len(points) == triangles.max() + 1
    for material in range(1, 5):
        own = np.concatenate([triangles[sides[:, 0] == material], triangles[sides[:, 1] == material][:, ::-1]])
        edges = np.concatenate([own[:, [0, 1]], own[:, [1, 2]], own[:, [2, 0]]])
        ways = {tuple(edge) for edge in edges.tolist()}
        assert len(ways) == len(edges) and all((b, a) in ways for a, b in ways)  # each edge once in each direction
