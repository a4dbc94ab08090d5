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
    return shared_surfaces(masks, affine)


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
    both = sum(mesh.volume for mesh in meshes.values())
    voxels = np.count_nonzero(label_map) * abs(np.linalg.det(affine[:3, :3]))
    assert both == pytest.approx(voxels, rel=0.03)


def test_a_ball_alone_lies_where_it_is():
    index = np.stack(np.meshgrid(*[np.arange(30)] * 3, indexing="ij"), -1) - 14.3
    (mesh,) = meshes_of((np.linalg.norm(index, axis=-1) < 11.0).astype(int), np.eye(4)).values()
    away = np.linalg.norm(np.asarray(mesh.vertices) - 14.3, axis=1) - 11.0
    assert np.abs(away).max() < 0.6 and abs(away.mean()) < 0.1
    assert (np.einsum("ij,ij->i", mesh.face_normals, mesh.triangles_center - 14.3) > 0).all()


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
