"""Pictures: the camera's geometry, the slice that is shown, and the file."""

import numpy as np
import pytest
import trimesh
from matplotlib.image import imread

from scripts.geometry.affine import spacing_mm
from scripts.geometry.surface import mask_to_surface
from scripts.report.pictures import Camera, Stage, Subject, _slice_of_interest, before_after
from tests.helpers.volumes import AFFINES


def ellipsoid(centre, radii):
    mesh = trimesh.creation.icosphere(subdivisions=3)
    mesh.apply_scale(radii)
    mesh.apply_translation(centre)
    return mesh


@pytest.mark.parametrize("side", [-1, 1])
def test_camera_sees_the_broad_side_from_outside(side):
    camera = Camera.facing(ellipsoid((30 * side, 5, 2), (4, 20, 9)))
    np.testing.assert_allclose(camera.towards, (side, 0, 0), atol=1e-6)
    np.testing.assert_allclose(np.abs(camera.right), (0, 1, 0), atol=1e-6)
    np.testing.assert_allclose(camera.up, (0, 0, 1), atol=1e-6)
    np.testing.assert_allclose(np.cross(camera.right, camera.up), camera.towards, atol=1e-6)
    flat = camera.project(np.array([[0.0, 0.0, 3.0], [5.0, 0.0, 3.0]]))
    np.testing.assert_allclose(flat, [[0, 3], [0, 3]], atol=1e-6)


def subject(affine):
    """A ball, whole and with a corner missing, on an image."""
    spacing = spacing_mm(affine)
    counts = np.ceil(24 / spacing).astype(int)
    axes = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(counts, spacing, strict=True)], indexing="ij")
    whole = sum(a**2 for a in axes) <= 64
    cut = whole & ~((axes[0] > 3) & (axes[1] > 0))
    image = np.random.default_rng(0).normal(size=whole.shape) + 5 * whole
    stages = [Stage(title, mask, mask_to_surface(mask, affine)) for title, mask in (("whole", whole), ("cut", cut))]
    return Subject("ball", image, affine, stages)


def test_the_slice_shown_cuts_the_damage():
    position = _slice_of_interest(subject(AFFINES["straight"]))
    assert position - 11.5 > 3  # beyond the plane of the cut, voxels of 1 mm


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_picture_is_written_whole(tmp_path, affine):
    before_after(tmp_path / "new" / "a.png", [subject(affine)], dpi=40)
    picture = imread(tmp_path / "new" / "a.png")[..., :3]
    blue = (picture[..., 2] > picture[..., 0] + 0.2).mean()
    assert picture.shape[0] == pytest.approx(40 * (2 * 2.2 + 0.8), abs=2) and 0.001 < blue < 0.3
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]
