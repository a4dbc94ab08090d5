"""What a voxel head is told of each voxel, on balls whose distances are known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scripts.evidence.channels import CHANNELS, FROM_PRIOR, OF_IMAGE, REACH, Scene, voxel_channels
from scripts.geometry.affine import Similarity
from scripts.geometry.resample import WorldGrid

CENTRE = np.array([10.0, -20.0, 5.0])
BRIGHT, DARK = 3.0, 1.0


def ball_scene(kind: str = "isotropic", mask_radius_mm: float = 9.0) -> Scene:
    """A bright ball of 12 mm with a fit of 12 mm, whose mask is smaller."""
    spacing = {"isotropic": (1, 1, 1), "thick": (1, 1, 3), "oblique": (1, 1.2, 2)}[kind]
    turn = Rotation.from_euler("xyz", [25, 10, 40], degrees=True).as_matrix() if kind == "oblique" else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing) @ np.diag([-1, 1, 1])
    shape = tuple(int(np.ceil(50 / h)) for h in spacing)
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    grid = WorldGrid(affine, shape)
    radius = np.linalg.norm(grid.points_world() - CENTRE, axis=-1)
    return Scene(
        grid=grid,
        step_mm=1.0,
        image=np.where(radius < 12, BRIGHT, DARK),
        mask_mm=radius - mask_radius_mm,
        initial_mm=None,
        others=np.zeros(shape, np.float32),
        fit_mm=radius - 12.0,
        linear_mm=None,
        context_mm=None,
        pose=Similarity(1.0, np.eye(3), -CENTRE),
    )


def told(scene: Scene) -> dict[str, np.ndarray]:
    index, values = voxel_channels(scene)
    world = index @ scene.grid.affine[:3, :3].T + scene.grid.affine[:3, 3]
    return dict(zip(CHANNELS, values.T, strict=True)) | {"radius": np.linalg.norm(world - CENTRE, axis=-1)}


@pytest.mark.parametrize("kind", ["isotropic", "thick", "oblique"])
def test_distances_and_places_are_those_of_the_world(kind):
    own = told(ball_scene(kind))
    radius = own["radius"]
    np.testing.assert_allclose(own["mask"], (radius - 9).clip(-8, 8), atol=1e-4)
    np.testing.assert_allclose(own["fit"], (radius - 12).clip(-8, 8), atol=1e-4)
    place = np.stack([own[f"place_{axis}"] for axis in "xyz"], 1)
    np.testing.assert_allclose(np.linalg.norm(place, axis=1), radius, atol=1e-3)
    assert np.isnan(own["linear"]).all() and np.isnan(own["context"]).all()


@pytest.mark.parametrize("kind", ["isotropic", "thick", "oblique"])
def test_what_the_image_shows_tells_inside_from_outside(kind):
    own = told(ball_scene(kind))
    deep, far = own["radius"] < 8, own["radius"] > 15
    assert own["ratio_0"][deep].min() > 1.0 and own["ratio_0"][far].max() < -1.0
    assert own["value_0"][deep].mean() > own["value_0"][far].mean() + 0.5
    edge = np.abs(own["radius"] - 12) < 0.5
    assert own["across_1"][edge].mean() < -0.1  # darker on the way out
    assert own["slope_1"][edge].mean() > 5 * own["slope_1"][own["radius"] < 7].mean()
    assert own["outward_2"][edge].mean() < own["inward_2"][edge].mean() - 0.5


@pytest.mark.parametrize(("factor", "offset"), [(1000.0, -400.0), (0.001, 0.0), (-1.0, 7.0)])
def test_scaling_of_the_image_does_not_matter(factor, offset):
    """But for the sign, which is that of the contrast."""
    scene = ball_scene()
    plain = told(scene)
    scaled = told(replace(scene, image=factor * scene.image + offset))
    for name in OF_IMAGE:
        same = plain[name] if factor > 0 or name.split("_")[0] in ("slope", "texture", "ratio") else -plain[name]
        np.testing.assert_allclose(scaled[name], same, atol=2e-3, err_msg=name)


def test_only_voxels_of_the_image_near_mask_or_fit_are_judged():
    scene = ball_scene()
    own = told(scene)
    assert own["radius"].max() < 12 + REACH and own["radius"].min() > 9 - REACH
    image = scene.image.copy()
    image[:25] = np.nan
    index, values = voxel_channels(replace(scene, image=image))
    assert index[:, 0].min() == 25 and np.isfinite(values[:, [CHANNELS.index(name) for name in OF_IMAGE]]).all()
    index, _ = voxel_channels(replace(scene, image=np.full_like(image, np.nan)))
    assert len(index) == 0


def test_without_fits_nothing_depends_on_them():
    """Neither which voxels are judged nor what is told of them, but for the channels that a prior is needed for."""
    plain = ball_scene(mask_radius_mm=11.0)
    moved = np.roll(plain.fit_mm, 4, axis=0)
    other = replace(plain, fit_mm=moved, linear_mm=moved, context_mm=plain.fit_mm + 3.0)
    columns = [number for number, name in enumerate(CHANNELS) if name not in FROM_PRIOR]
    (index, values), (same, again) = (voxel_channels(scene.without_fits()) for scene in (plain, other))
    np.testing.assert_array_equal(same, index)
    np.testing.assert_array_equal(again[:, columns], values[:, columns])
    with_them, told_of_them = voxel_channels(other)
    assert with_them.shape != index.shape
    at = {tuple(voxel): row for voxel, row in zip(with_them, told_of_them[:, columns], strict=True)}
    assert np.abs(np.stack([at[tuple(voxel)] for voxel in index]) - values[:, columns]).max() > 0.1


def test_in_a_constant_image_nothing_is_judged():
    index, values = voxel_channels(replace(ball_scene(), image=np.full(ball_scene().grid.shape, 7.0)))
    assert len(index) == 0 and values.shape == (0, len(CHANNELS))


def test_voxels_stand_upright_on_any_axes_and_mirrored_sides_are_mirrored_back():
    """The same voxels of the world, in arrays whose axes run otherwise, get the same places."""
    plain = ball_scene("thick")
    index, _ = voxel_channels(plain)
    expected = plain.upright(index)
    world = index @ plain.grid.affine[:3, :3].T + plain.grid.affine[:3, 3]
    order = np.lexsort(world.T)
    assert (np.diff(expected[order] @ [0, 0, 1]) >= 0).all()  # z rises
    np.testing.assert_array_equal(expected[:, 0], plain.grid.shape[0] - 1 - index[:, 0])  # whose x runs to the left
    axes, flipped = (2, 0, 1), np.diag([1.0, -1.0, 1.0, 1.0])
    turned = np.eye(4)[[*axes, 3]].T  # index of the plain array from that of one with its axes in another order
    shape = tuple(plain.grid.shape[k] for k in axes)
    flipped[1, 3] = shape[1] - 1
    grid = WorldGrid(plain.grid.affine @ turned @ flipped, shape)
    own = index[:, axes].copy()
    own[:, 1] = shape[1] - 1 - own[:, 1]
    np.testing.assert_allclose(own @ grid.affine[:3, :3].T + grid.affine[:3, 3], world, atol=1e-9)
    np.testing.assert_array_equal(replace(plain, grid=grid).upright(own), expected)
    mirrored = replace(plain, pose=Similarity(1.0, np.diag([-1.0, 1.0, 1.0]), np.zeros(3)))
    np.testing.assert_array_equal(mirrored.upright(index)[:, 0], plain.grid.shape[0] - 1 - expected[:, 0])
    np.testing.assert_array_equal(mirrored.upright(index)[:, 1:], expected[:, 1:])
