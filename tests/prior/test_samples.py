"""From label maps to aligned samples."""

import logging

import numpy as np
import pytest
import trimesh

from scripts.prior.preparation import prepare
from scripts.prior.samples import SampleSettings, sample_shape, smooth_displacement

from .shapes import ellipsoid_radii, write_ellipsoids

SMALL = SampleSettings(n_surface=400, n_free=300, grid_size=12, box_points=2000, picct_points=150)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_ellipsoids(tmp_path_factory.mktemp("labels"), ellipsoid_radii(4, seed=0))


def test_samples_of_a_sphere_are_exact():
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.6)
    shape = sample_shape(mesh, "sphere", SMALL)
    points, normals = shape.surface[:, :3], shape.surface[:, 3:]
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.6, atol=2e-3)
    np.testing.assert_allclose(normals, points / np.linalg.norm(points, axis=1, keepdims=True), atol=0.01)
    np.testing.assert_allclose(shape.free[:, 3], np.linalg.norm(shape.free[:, :3], axis=1) - 0.6, atol=2e-3)
    axis = np.linspace(-1.1, 1.1, 12)
    radius = np.linalg.norm(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1), axis=-1)
    np.testing.assert_allclose(shape.grid, radius - 0.6, atol=2e-3)
    cell = np.prod((shape.box[1] - shape.box[0]) / (shape.box_shape - 1))
    assert shape.box_inside.sum() * cell == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.05)
    assert len(shape.box_grid()) == len(shape.box_inside)


def test_half_of_the_free_points_are_near_the_surface():
    shape = sample_shape(trimesh.creation.icosphere(subdivisions=3, radius=0.5), "sphere", SMALL)
    assert np.abs(shape.free[:150, 3]).mean() < 0.08
    assert np.linalg.norm(shape.free[150:, :3], axis=1).max() <= SMALL.ball_radius


def test_shapes_are_aligned_and_cached(files, tmp_path):
    first = prepare(files[:3], [1], tmp_path, SMALL, files[3:])
    assert [shape.name for shape in first.train] == [f.name for f in files[:3]]
    assert [shape.name for shape in first.validation] == [files[3].name]
    assert not first.skipped and first.anchor_name in {f.name for f in files[:3]}
    assert 0.85 < np.linalg.norm(first.anchor_points, axis=1).max() <= 0.9 + 1e-9
    assert 11 < first.scale_mm < 20  # the farthest point, 14 mm off the centre or so, stands at 0.9
    for shape in first.train:
        assert np.linalg.norm(shape.surface[:, :3].mean(axis=0)) < 0.1
        outward = (shape.surface[:, :3] * shape.surface[:, 3:]).sum(axis=1)
        assert (outward > 0).mean() > 0.99
        assert shape.grid[6, 6, 6] < 0 < shape.grid[0, 0, 0]
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    again = prepare(files[:3], [1], tmp_path, SMALL, files[3:])
    assert stamps == {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert again.data_hash == first.data_hash
    np.testing.assert_array_equal(again.grids, first.grids)
    assert prepare(files, [1], tmp_path, SMALL).data_hash != first.data_hash


def test_bad_label_maps_are_named_and_skipped(files, tmp_path, caplog):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    empty = write_ellipsoids(tmp_path / "empty", np.full((1, 3), 0.01))
    with caplog.at_level(logging.WARNING):
        prepared = prepare([broken, *empty, *files], [1], tmp_path / "cache", SMALL)
    assert set(prepared.skipped) == {"broken.nii.gz", empty[0].name}
    assert len(prepared.train) == 4 and "broken.nii.gz" in caplog.text
    with pytest.raises(ValueError, match="at least two"):
        prepare([broken, files[0]], [1], tmp_path / "cache", SMALL)


def test_augmented_copies(files, tmp_path):
    settings = SampleSettings(**{**SMALL.__dict__, "mirror_augment": True, "deform_augment": 1})
    prepared = prepare(files[:2], [1], tmp_path, settings, files[2:3])
    assert len(prepared.train) == 8 and sum(shape.original for shape in prepared.train) == 2
    assert len(prepared.validation) == 1
    plain, deformed = prepared.train[0], prepared.train[1]
    assert deformed.name == f"{plain.name}~deform1"
    change = np.abs(plain.grid - deformed.grid)
    assert 1e-3 < change.mean() < 0.1
    for shape in prepared.train:  # mirrored twins, too, point outwards
        assert ((shape.surface[:, :3] * shape.surface[:, 3:]).sum(axis=1) > 0).mean() > 0.97


def test_displacements_are_smooth_and_of_the_asked_size():
    points = np.random.default_rng(0).uniform(-1, 1, size=(500, 3))
    moves = np.stack([smooth_displacement(points, 0.05, 1.0, seed) for seed in range(40)])
    assert np.sqrt((moves**2).sum(-1).mean()) == pytest.approx(0.05, rel=0.1)
    near = smooth_displacement(points + 1e-3, 0.05, 1.0, 0) - moves[0]
    assert np.abs(near).max() < 2e-3
