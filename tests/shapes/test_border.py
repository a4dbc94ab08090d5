"""Shapes cut by the field of view: found, and used where they are seen."""

import dataclasses

import nibabel as nib
import numpy as np
import pytest
import torch
import trimesh

from scripts.geometry.affine import Similarity
from scripts.geometry.surface import mask_to_surface
from scripts.shapes.anchor import Anchor, align_cut
from scripts.shapes.border import border_distance, border_planes, extend_beyond, is_known, moved_planes, touched_faces
from scripts.shapes.completion import complete_grids
from scripts.shapes.preparation import prepare
from scripts.shapes.samples import SampleSettings, sample_shape
from tests.helpers.ellipsoid_files import EGG, ellipsoid_radii, write_ellipsoids
from tests.helpers.tiny_run import TINY, workflow
from tests.helpers.volumes import AFFINES

SMALL = SampleSettings(n_surface=1500, n_free=1500, grid_size=14, box_points=3000, picct_points=200)


def world(affine, index):
    return np.asarray(index) @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
class TestPlanes:
    def test_lie_half_a_voxel_beyond_the_last_centres(self, affine):
        mask = np.zeros((5, 6, 7), bool)
        mask[0, 2:4, 3] = mask[2, 3:, 4] = True
        faces = touched_faces(mask, affine)
        assert [(face.axis, face.far) for face in faces] == [(0, False), (1, True)]
        columns = affine[:3, :3].T
        assert faces[0].area_mm2 == pytest.approx(2 * np.linalg.norm(np.cross(columns[1], columns[2])))
        planes = border_planes(faces, mask.shape, affine)
        np.testing.assert_allclose(np.linalg.norm(planes[:, :3], axis=1), 1.0)
        on_border = world(affine, [[-0.5, 1.0, 2.0], [3.0, 5.5, 2.0]])
        np.testing.assert_allclose(np.diag(on_border @ planes[:, :3].T + planes[:, 3]), 0.0, atol=1e-9)
        assert (border_distance(planes, world(affine, [[2.0, 3.0, 4.0]])) > 0).all()
        assert (border_distance(planes, world(affine, [[-1.0, 3.0, 4.0], [2.0, 6.0, 4.0]])) < 0).all()

    def test_follow_a_similarity(self, affine):
        planes = border_planes(touched_faces(np.ones((3, 4, 5), bool), affine), (3, 4, 5), affine)
        turn = Similarity(0.02, np.diag([-1.0, 1.0, 1.0]) @ np.eye(3)[[1, 2, 0]], np.array([0.3, -0.2, 0.1]))
        points = world(affine, np.random.default_rng(0).uniform(-2, 6, (50, 3)))
        moved = border_distance(moved_planes(planes, turn), turn.apply(points))
        np.testing.assert_allclose(moved, 0.02 * border_distance(planes, points), atol=1e-9)

    def test_extension_is_straight(self, affine):
        mask = np.zeros((8, 9, 9), bool)
        mask[:4, 3:6, 3:6] = True
        longer, shifted = extend_beyond(mask, affine, touched_faces(mask, affine))
        added = longer.shape[0] - 8
        assert added >= 3 and longer.shape[1:] == (9, 9)
        np.testing.assert_allclose(world(shifted, [added, 0, 0]), world(affine, [0, 0, 0]))
        np.testing.assert_array_equal(longer[added:], mask)
        assert longer[:added, 4, 4].all()
        surface = mask_to_surface(longer, shifted)
        planes = border_planes(touched_faces(mask, affine), mask.shape, affine)
        seen = border_distance(planes, surface.vertices) >= 0
        normals = surface.vertex_normals[seen & (border_distance(planes, surface.vertices) < 1.0)]
        assert np.abs(normals @ planes[0, :3]).max() < 0.5  # the wall goes on: no cap faces the border


def test_known_distances_are_those_of_the_whole_shape():
    whole = trimesh.creation.icosphere(subdivisions=4, radius=0.7)
    plane = np.array([[0.0, 0.0, -1.0, 0.3]])  # nothing is seen above z = 0.3
    seen = trimesh.creation.icosphere(subdivisions=4, radius=0.7)
    seen.vertices[:, 2] = np.minimum(seen.vertices[:, 2], 0.45)  # closed by a cap beyond the border
    shape = sample_shape(seen, "cut", SMALL, planes=plane)
    np.testing.assert_allclose(shape.free[:, 3], np.linalg.norm(shape.free[:, :3], axis=1) - 0.7, atol=3e-3)
    assert shape.free[:, 2].max() < 0.3 and shape.surface[:, 2].max() <= 0.3
    np.testing.assert_allclose(np.linalg.norm(shape.surface[:, :3], axis=1), 0.7, atol=3e-3)
    reference = sample_shape(whole, "whole", SMALL)
    error = np.abs(shape.grid - reference.grid)
    assert error[shape.grid_known].max() < 5e-3 < error[~shape.grid_known].max()
    assert 0.2 < shape.grid_known.mean() < 0.7 and reference.grid_known.all() and reference.box_known.all()


def test_a_point_nearer_to_the_border_than_to_the_surface_is_unknown():
    plane = np.array([[1.0, 0.0, 0.0, 0.0]])
    points = np.array([[0.5, 0.0, 0.0], [0.1, 0.0, 0.0], [-0.1, 0.0, 0.0]])
    assert is_known(plane, points, np.array([-0.4, 0.2, 0.0])).tolist() == [True, False, False]


def test_cut_shapes_are_aligned_by_what_is_seen():
    """Pear-like points: the thick end alone must land on the anchor's thick end, not on all of it."""
    sphere = trimesh.creation.icosphere(subdivisions=4).vertices
    pear = sphere * np.array([10.0, 10.0, 20.0]) * (1.0 - 0.45 * sphere[:, 2:])
    frame = Similarity(0.9 / 30.0, np.eye(3), np.zeros(3))
    anchor = Anchor("pear", "", frame.apply(pear), 1.0 / frame.scale)
    turn = Similarity(1.1, np.eye(3), np.array([40.0, -30.0, 12.0]))
    case = turn.apply(pear)
    limit = np.quantile(case[:, 2], 0.6)
    planes = np.array([[0.0, 0.0, -1.0, limit]])
    found, failure = align_cut(case[case[:, 2] <= limit], planes, "never", anchor, SampleSettings(picct_points=300))
    assert failure == ""
    error = np.linalg.norm(found.apply(case) - anchor.points, axis=1)
    assert error.mean() < 0.06  # canonical: 2 mm


def test_completion_finds_what_the_others_tell():
    """Spheres of several radii: half a sphere's grid is enough to know the other half."""
    axis = np.linspace(-1, 1, 12)
    radius = np.linalg.norm(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1), axis=-1)
    sizes = [0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.63, 0.42]
    truth = np.stack([radius - size for size in sizes]).astype(np.float32)
    known = np.ones_like(truth, bool)
    known[5, :, :, 6:] = known[6, :, :, 6:] = known[7, :6] = False
    given = np.where(known, truth, 9.0).astype(np.float32)
    filled = complete_grids(given, known, n_train=7)
    np.testing.assert_array_equal(filled[known], truth[known])
    assert np.abs(filled - truth).max() < 0.02


@pytest.fixture(scope="module")
def cut_files(tmp_path_factory):
    """Six whole ellipsoids, and two that end at 60 % of their height."""
    folder = tmp_path_factory.mktemp("labels")
    whole = write_ellipsoids(folder, ellipsoid_radii(8, seed=0))
    cut = []
    for file in whole[6:]:
        image = nib.load(file)
        cut.append(folder / f"cut_{file.name}")
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, :11], image.affine), cut[-1])
    return whole, cut


def test_cut_shapes_are_left_out_by_default_and_named(cut_files, tmp_path, caplog):
    whole, cut = cut_files
    prepared = prepare([*whole[:3], *cut], EGG, tmp_path, SMALL)
    assert len(prepared.train) == 3 and set(prepared.skipped) == {file.name for file in cut}
    assert "cut by the field of view" in caplog.text and "--cut_shapes observed" in caplog.text
    with pytest.raises(ValueError, match="try --cut_shapes observed"):
        prepare([whole[0], *cut], EGG, tmp_path, SMALL)


def test_observed_shapes_go_on_beyond_the_border(cut_files, tmp_path):
    """What the two cut ellipsoids have beyond the border is predicted, not closed by a cap."""
    whole, cut = cut_files
    settings = dataclasses.replace(SMALL, cut_shapes="observed")
    prepared = prepare([*whole[:6], *cut], EGG, tmp_path, settings)
    assert set(prepared.cut) == {file.name for file in cut} and not prepared.skipped
    assert prepared.anchor_name in {file.name for file in whole}
    for shape in prepared.train[6:]:
        assert len(shape.planes) == 1 and not shape.grid_known.all()
        inwards = shape.planes[0, :3]
        assert (shape.surface[:, 3:] @ inwards).min() > -0.75  # a cap's normals would be -1
        beyond = border_distance(shape.planes, shape.surface[:, :3])
        assert beyond.min() >= -1e-6
        assert border_distance(shape.planes, shape.free[:, :3]).min() >= 0
        # the completed grid holds the cut-off end: as large as the whole ellipsoid's in its own frame
        axis = np.linspace(-1.1, 1.1, 14)
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        hidden = border_distance(shape.planes, points) < 0
        share = (shape.grid.reshape(-1)[hidden] < 0).sum() / (shape.grid < 0).sum()
        assert 0.2 < share < 0.6


def test_the_field_continues_a_cut_shape(bundle_root, cut_files, tmp_path):
    """Trained with cut shapes, the field has material beyond their border where the whole ellipsoid has."""
    whole, cut = cut_files
    folder = tmp_path / "labels"
    folder.mkdir()
    for file in [*whole[:6], *cut]:
        (folder / file.name).write_bytes(file.read_bytes())
    options = {**TINY, "cut_shapes": "observed", "validation_share": 0.0, "max_epochs": 6}
    job = workflow(bundle_root, tmp_path, tmp_path / "egg", tmp_path, **options)
    job.initialize()
    job.run()
    prepared = job.parser.get_parsed_content("prepared")
    network = job.parser.get_parsed_content("field_with_codes")
    names = [shape.name for shape in prepared.train]
    for file, truth in zip(cut, whole[6:], strict=True):
        index = names.index(file.name)
        shape = prepared.train[index]
        radii = np.asarray(nib.load(truth).dataobj)
        volume_share = radii[:, :, 11:].sum() / radii.sum()
        axis = torch.linspace(-1.05, 1.05, 40)
        points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        with torch.no_grad():
            weights = network.field.weights(network.beta[index : index + 1])
            inside = network.field.sdf(weights, network.alpha[index : index + 1], points).numpy() < 0
        hidden = border_distance(shape.planes, points.numpy()) < 0
        assert inside[hidden].sum() / inside.sum() == pytest.approx(volume_share, rel=0.25)
