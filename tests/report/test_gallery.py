"""The gallery: one scale for all, colours as given, a file that is written whole."""

import numpy as np
import pytest
import trimesh
from matplotlib.image import imread

from scripts.report.gallery import Exhibit, draw_gallery
from scripts.report.pictures import Camera


def ball(radius: float, colour: tuple[int, int, int]) -> Exhibit:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    mesh.apply_translation((40.0, -9.0, 100.0))
    camera = Camera(np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), np.array([0, -1.0, 0]))
    return Exhibit("ball", mesh, np.tile(np.uint8(colour), (len(mesh.vertices), 1)), camera)


def test_surfaces_are_drawn_to_one_scale_in_their_colours(tmp_path):
    draw_gallery(
        tmp_path / "new" / "a.png", [[ball(10, (250, 40, 40)), ball(5, (40, 40, 250))], [ball(10, (40, 250, 40))]]
    )
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]
    picture = imread(tmp_path / "new" / "a.png")[..., :3]
    areas = [(picture[..., c] > 1.8 * np.delete(picture, c, axis=2).max(axis=2)).sum() for c in range(3)]
    assert areas[0] == pytest.approx(areas[1], rel=0.1) and areas[0] == pytest.approx(4 * areas[2], rel=0.15)


@pytest.mark.parametrize(
    "radii, towards, up",
    [((4, 9, 20), (1, 0, 0), (0, 0, 1)), ((9, 4, 20), (0, 1, 0), (0, 0, 1)), ((9, 20, 4), (0, 0, 1), (0, 1, 0))],
)
def test_upright_camera_keeps_the_head_up(radii, towards, up):
    mesh = trimesh.creation.icosphere(subdivisions=3)
    mesh.apply_scale(radii)
    camera = Camera.upright(mesh)
    np.testing.assert_allclose(camera.towards, towards, atol=1e-6)
    np.testing.assert_allclose(camera.up, up, atol=1e-6)
    np.testing.assert_allclose(np.cross(camera.right, camera.up), camera.towards, atol=1e-6)
