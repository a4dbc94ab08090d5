"""Uncertainty of a refined surface: the spread of the three fits, and of the mask, about it."""

from types import SimpleNamespace

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from scripts.geometry.affine import voxel_volume_mm3
from scripts.geometry.distance import surface_distance
from scripts.geometry.surface import mask_to_surface
from scripts.refine.chain import Refiner
from scripts.refine.draw_mesh import MeshRequest
from scripts.refine.finetune import LatentFinetune
from scripts.refine.settings import RefineSettings
from scripts.refine.stages import CODES, LINEAR, TUNED
from scripts.refine.uncertainty import FACTOR, LEAST_VOXELS, check_uncertainty, uncertainty_mm
from tests.helpers.mean_shape import KINDS, damaged, mean_shape
from tests.helpers.volumes import AFFINES


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_it_is_the_root_mean_square_of_four_distances_and_what_a_voxel_hides(affine):
    """Fits and mask are concentric balls, so their distances from a ball's surface are known."""
    way = np.random.default_rng(0).normal(size=(50, 3))
    points = 20.0 * way / np.linalg.norm(way, axis=1, keepdims=True)
    balls = {radius: lambda at, radius=radius: np.linalg.norm(at, axis=1) - radius for radius in (18.0, 19.0, 22.0)}
    mask = trimesh.creation.icosphere(subdivisions=5, radius=23.0)
    hidden = LEAST_VOXELS * voxel_volume_mm3(affine) ** (1 / 3)
    fitted = SimpleNamespace(fit=SimpleNamespace(witnesses=balls), surface=mask, affine=affine)
    expected = FACTOR * np.sqrt((4 + 1 + 4 + 9) / 4 + hidden**2)
    np.testing.assert_allclose(uncertainty_mm(fitted, points), expected, rtol=0.01)
    fitted.fit.witnesses = {name: balls[18.0] for name in (LINEAR, TUNED)}
    fitted.surface = trimesh.creation.icosphere(subdivisions=5, radius=18.0)
    np.testing.assert_allclose(uncertainty_mm(fitted, 0.9 * points), FACTOR * hidden, rtol=0.05)


@pytest.mark.parametrize("preset", ["linear", "paper"])
def test_presets_without_three_fits_refuse_it(preset):
    settings = {"egg": RefineSettings.load(preset)}
    with pytest.raises(ValueError, match="the preset 'default'"):
        check_uncertainty(settings, True)
    assert not check_uncertainty(settings, False)
    assert check_uncertainty({"egg": RefineSettings.load()}, True)


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    return Refiner("hippocampus")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_larger_where_the_refined_surface_is_wrong(refiner, kind):
    truth, affine = mean_shape(kind)
    broken = damaged(truth, affine)
    fitted = refiner.fit(refiner.sample(refiner.align(broken, affine), broken, affine))
    _, (case,) = refiner.reconstruct(fitted, broken, affine, MeshRequest(uncertain=True))
    assert case.uncertainty_mm.shape == (len(case.mesh.vertices),)
    off = surface_distance(mask_to_surface(truth > 0, affine), case.mesh.vertices)
    wrong = off > np.percentile(off, 90)
    assert np.median(case.uncertainty_mm[wrong]) > 1.1 * np.median(case.uncertainty_mm[~wrong])
    said = case.quality["uncertainty_mm"]
    assert 0 < said["median"] < said["p90"] < case.uncertainty_mm.max()
    assert said["median"] == pytest.approx(np.median(case.uncertainty_mm), abs=1e-3)


def test_fewer_triangles_have_the_uncertainty_of_their_places_and_who_does_not_ask_gets_none(refiner):
    truth, affine = mean_shape("oblique")
    fitted = refiner.fit(refiner.sample(refiner.align(truth, affine), truth, affine))
    _, (whole,) = refiner.reconstruct(fitted, truth, affine, MeshRequest(uncertain=True))
    _, (thin,) = refiner.reconstruct(fitted, truth, affine, MeshRequest(faces=1500, uncertain=True))
    assert len(thin.uncertainty_mm) == len(thin.mesh.vertices) < len(whole.mesh.vertices)
    near = whole.uncertainty_mm[cKDTree(whole.mesh.vertices).query(thin.mesh.vertices)[1]]
    np.testing.assert_allclose(thin.uncertainty_mm, near, atol=0.6)
    _, (plain,) = refiner.reconstruct(fitted, truth, affine)
    assert plain.uncertainty_mm is None and "uncertainty_mm" not in plain.quality


def test_a_doubtful_fit_says_nothing(refiner):
    """The mask lies as one whose x and y axes are exchanged."""
    truth, affine = mean_shape("plain")
    lost = np.eye(4)[[1, 0, 2, 3]] @ affine
    fitted = refiner.fit(refiner.sample(refiner.align(truth, lost), truth, lost))
    _, (case,) = refiner.reconstruct(fitted, truth, lost, MeshRequest(uncertain=True))
    assert case.quality["doubtful"] and case.mesh is not None
    assert case.uncertainty_mm is None and "uncertainty_mm" not in case.quality


def test_the_witnesses_are_the_fits_that_the_tuned_one_came_from(refiner):
    truth, affine = mean_shape("oblique")
    broken = damaged(truth, affine)
    (sampled,) = refiner.sample(refiner.align(broken, affine), broken, affine)
    known = sampled.samples, sampled.transform, sampled.prior
    found = LatentFinetune(RefineSettings.load("default", refiner.pack))(*known).witnesses
    points = np.random.default_rng(0).uniform(-15.0, 15.0, (300, 3)) + broken_centre(broken, affine)
    by_codes = LatentFinetune(RefineSettings.load("default", refiner.pack, weight_steps=0))(*known)
    linear = LatentFinetune(RefineSettings.load("linear", refiner.pack))(*known)
    assert list(found) == [LINEAR, CODES, TUNED] and list(linear.witnesses) == [LINEAR, TUNED]
    np.testing.assert_allclose(found[CODES](points), by_codes.sdf_mm(points), atol=1e-4)
    np.testing.assert_allclose(found[LINEAR](points), linear.sdf_mm(points), atol=1e-4)
    assert np.abs(found[TUNED](points) - by_codes.sdf_mm(points)).max() > 0.05


def broken_centre(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The middle (3,) of a mask, world mm."""
    return (affine[:3, :3] @ np.argwhere(mask > 0).T).mean(1) + affine[:3, 3]
