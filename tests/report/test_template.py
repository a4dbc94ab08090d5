"""The template command, and landmarks of ellipsoids on a prior that learned ellipsoids."""

import numpy as np
import pytest
import torch
import trimesh
from matplotlib.image import imread
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation

from scripts.geometry.resample import WorldGrid
from scripts.organ.pack import OrganError, OrganPack
from scripts.prior.prior import ShapePrior
from scripts.report.template import latents, prior_shape, template
from tests.helpers.mean_shape import chain
from tests.helpers.tiny_run import run

RADII = np.array([10.0, 14.0, 12.0])
TOLERANCE_MM = 2.0  # mean distance between the places of one pole in different cases; opposite poles: 20 to 28 mm
CASES = {  # scale of the radii, rotation of the shape, spacing and rotation of the grid
    "plain": ((1.0, 1.0, 1.0), (0, 0, 0), (1.0, 1.0, 1.0), (0, 0, 0)),
    "larger": ((1.3, 1.3, 1.3), (0, 0, 0), (1.0, 1.0, 1.0), (0, 0, 0)),
    "longer, anisotropic": ((1.0, 1.12, 0.92), (0, 0, 0), (0.8, 0.8, 2.5), (0, 0, 0)),
    "turned, oblique": ((0.95, 1.05, 1.0), (8, -6, 10), (1.0, 0.9, 1.5), (25, -15, 40)),
}


@pytest.fixture(scope="module")
def eggs(bundle_root, organ):  # noqa: F811
    """The pack of ellipsoids with its trained prior."""
    pack, cache = organ
    run(bundle_root, pack, pack, cache)
    (pack / "prior.safetensors").rename(pack / "egg.safetensors")
    return pack


def egg_case(pack, scale, turn_deg, spacing_mm, grid_deg):
    """The refined case of an ellipsoid, and the world points (6, 3) of its poles, + then - of each axis."""
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", grid_deg, degrees=True).as_matrix() @ np.diag(spacing_mm)
    shape = tuple(int(np.ceil(64 / h)) for h in spacing_mm)
    centre = np.array([60.0, -35.0, 12.0])
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    radii = RADII * scale
    local = (WorldGrid(affine, shape).points_world() - centre) @ turn
    labels = ((local / radii) ** 2).sum(-1) <= 1
    pred = MetaTensor(torch.as_tensor(labels[None].astype(np.int32)), affine=torch.as_tensor(affine))
    (case,) = chain(organ=str(pack))({"pred": pred})["pred_shapes"]
    assert not case.failure
    return case, centre + np.concatenate([np.diag(radii), -np.diag(radii)]) @ turn.T


@pytest.mark.slow
def test_poles_of_ellipsoids_have_the_same_place(eggs):
    prior = ShapePrior.load(OrganPack.load(eggs).structures[0].prior)
    places = []
    for settings in CASES.values():
        case, poles = egg_case(eggs, *settings)
        distance, nearest = trimesh.proximity.ProximityQuery(case.mesh).vertex(poles)
        assert distance.max() < 2.5
        places.append(case.correspondence.template_points[nearest] * prior.scale_mm)
    apart = np.linalg.norm(np.array(places) - places[0], axis=-1)
    assert apart[1:].mean() < TOLERANCE_MM and apart.max() < 2 * TOLERANCE_MM
    opposite = np.linalg.norm(places[0][:3] - places[0][3:], axis=1)
    assert (opposite > 15.0).all()  # the poles are told apart


def test_command_exports_meshes_and_a_picture(eggs, tmp_path):
    said = template(str(eggs), str(tmp_path / "out"), modes=1)
    assert "egg" in said
    names = ["egg_mean.ply", "egg_mode1_minus.ply", "egg_mode1_plus.ply", "egg_template.ply", "template_egg.png"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    meshes = {name: trimesh.load(tmp_path / "out" / name, process=False) for name in names[:-1]}
    for mesh in meshes.values():
        assert mesh.is_watertight and (RADII < mesh.extents).all() and (mesh.extents < 4 * RADII).all()
    volume = meshes["egg_mean.ply"].volume
    assert volume == pytest.approx(4 / 3 * np.pi * RADII.prod(), rel=0.25)
    changes = [np.abs(meshes[f"egg_mode1_{s}.ply"].extents - meshes["egg_mean.ply"].extents) for s in ("minus", "plus")]
    assert np.max(changes) > 0.5
    scale_mm = ShapePrior.load(OrganPack.load(eggs).structures[0].prior).scale_mm
    own = meshes["egg_template.ply"]
    data = own.metadata["_ply_raw"]["vertex"]["data"]
    places = np.stack([np.ravel(data[f"template_{axis}"]) for axis in "xyz"], axis=1)
    np.testing.assert_allclose(places * scale_mm, own.vertices, atol=1e-3)  # the template lies on itself
    assert imread(tmp_path / "out" / "template_egg.png").std() > 0.05


def test_packaged_hippocampus_has_template_mean_and_modes():
    prior = ShapePrior.load(OrganPack.load("hippocampus").structures[0].prior)
    shapes = {name: prior_shape(prior, name, latent, resolution=48) for name, latent in latents(prior, 1)}
    assert set(shapes) == {"template", "mean", "mode1_minus", "mode1_plus"}
    for shape in shapes.values():
        assert shape.mesh_mm.is_watertight and shape.mesh_mm.body_count == 1
        assert 1500 < shape.mesh_mm.volume < 6000 and 30 < shape.mesh_mm.extents.max() < 55
        assert len(np.unique(shape.correspondence.colours, axis=0)) > 200
    minus, mean, plus = (shapes[n].mesh_mm.volume for n in ("mode1_minus", "mean", "mode1_plus"))
    assert abs(plus - minus) > 0.02 * mean


def test_modes_are_the_principal_axes_of_the_codes():
    prior = ShapePrior.load(OrganPack.load("hippocampus").structures[0].prior)
    length = prior.code_whitening.norm(dim=0)
    assert (length.diff() <= 1e-6).all()
    gram = prior.code_whitening.T @ prior.code_whitening
    torch.testing.assert_close(gram, torch.diag(length**2), atol=1e-4, rtol=1e-3)


def test_what_does_not_exist_is_named(tmp_path):
    with pytest.raises(OrganError, match="no structure 'spleen'"):
        template("hippocampus", str(tmp_path), structure="spleen")
    with pytest.raises(ValueError, match=r"modes must lie in \[0, 96\]"):
        template("hippocampus", str(tmp_path), modes=97)
    assert not list(tmp_path.iterdir())
