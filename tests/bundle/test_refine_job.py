"""The `refine` job with the packaged hippocampus prior, on grids of several kinds."""

import io
import json
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import trimesh
from monai.bundle import ConfigWorkflow
from scipy import ndimage
from scipy.spatial import cKDTree

from scripts.cases.mesh import read_mesh, vertex_numbers
from scripts.prior.prior import ShapePrior
from scripts.run.errors import plain_text_of
from tests.helpers.mean_shape import KINDS, damaged, dice, mean_shape


def refine(bundle_root, masks, output, **options) -> None:
    workflow = ConfigWorkflow(
        config_file=str(bundle_root / "configs" / "refine.yaml"),
        meta_file=str(bundle_root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(bundle_root),
        dataset_dir=str(masks),
        output_dir=str(output),
        device="cpu",
        **options,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


@pytest.fixture(scope="module")
def broken_masks(tmp_path_factory):
    """One damaged mask a grid, as int16 with different header codes."""
    folder = tmp_path_factory.mktemp("masks")
    for code, kind in enumerate(KINDS, 1):
        truth, affine = mean_shape(kind)
        image = nib.Nifti1Image(damaged(truth, affine).astype(np.int16), affine)
        image.set_sform(affine, code)
        image.set_qform(affine, 1)
        nib.save(image, folder / f"{kind}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def results(bundle_root, broken_masks, tmp_path_factory):
    output = tmp_path_factory.mktemp("refined")
    refine(bundle_root, broken_masks, output)
    return output


@pytest.mark.parametrize("kind", KINDS)
def test_masks_keep_grid_type_and_labels(broken_masks, results, kind):
    before = nib.load(broken_masks / f"{kind}.nii.gz")
    after = nib.load(results / kind / f"{kind}_refined.nii.gz")
    assert after.shape == before.shape
    assert after.get_data_dtype() == before.get_data_dtype()
    assert (after.affine == before.affine).all()
    for form in ("sform_code", "qform_code"):
        assert after.header[form] == before.header[form]
    values = np.asarray(after.dataobj)
    assert set(np.unique(values)) == {0, 1, 2}
    truth = mean_shape(kind)[0] > 0
    assert dice(values > 0, truth) > dice(np.asarray(before.dataobj) > 0, truth)


@pytest.mark.parametrize("kind", KINDS)
def test_mesh_lies_on_the_mask_in_world_mm(results, kind):
    image = nib.load(results / kind / f"{kind}_refined.nii.gz")
    mesh = trimesh.load(results / kind / f"{kind}_hippocampus.stl")
    index = np.argwhere(np.asarray(image.dataobj) > 0)
    world = index @ image.affine[:3, :3].T + image.affine[:3, 3]
    assert mesh.is_watertight and mesh.volume > 0
    assert np.abs(mesh.center_mass - world.mean(0)).max() < 0.8
    assert (mesh.bounds[0] > world.min(0) - 2.5).all() and (mesh.bounds[1] < world.max(0) + 2.5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_ply_is_the_mesh_with_places_that_agree_between_grids(results, kind):
    plain, here = (trimesh.load(results / k / f"{k}_hippocampus.ply", process=False) for k in ("plain", kind))
    stl = trimesh.load(results / kind / f"{kind}_hippocampus.stl")
    assert here.volume == pytest.approx(stl.volume, rel=1e-5) and here.visual.kind == "vertex"
    _, nearest = cKDTree(plain.vertices).query(here.vertices)  # one shape, so the same place in the world
    places = [
        np.stack([np.ravel(mesh.metadata["_ply_raw"]["vertex"]["data"][f"template_{a}"]) for a in "xyz"], 1)
        for mesh in (plain, here)
    ]
    assert 28.7 * np.linalg.norm(places[0][nearest] - places[1], axis=1).mean() < 1.2  # mm
    colours = [mesh.visual.vertex_colors[:, :3].astype(int) for mesh in (plain, here)]
    assert np.abs(colours[0][nearest] - colours[1]).mean() < 12


def test_report_says_what_changed_and_why(results):
    report = json.loads((results / "report.json").read_text())
    assert [case["status"] for case in report["cases"]] == ["refined"] * 3
    outputs = report["cases"][0]["outputs"]
    assert outputs["hippocampus_correspondence"].endswith("_hippocampus.ply")
    text = json.dumps(report)
    assert "island" in text and "missing part" in text


def test_the_same_seed_gives_the_same_bytes(bundle_root, broken_masks, results, tmp_path):
    refine(bundle_root, broken_masks / "plain.nii.gz", tmp_path)
    for name in ("plain_refined.nii.gz", "plain_hippocampus.stl", "plain_hippocampus.ply"):
        assert (tmp_path / "plain" / name).read_bytes() == (results / "plain" / name).read_bytes()


def test_vertices_say_how_uncertain_they_are_where_that_is_asked_for(bundle_root, broken_masks, results, tmp_path):
    """And nothing else changes."""
    refine(bundle_root, broken_masks / "oblique.nii.gz", tmp_path, uncertainty="true")
    folder, before = tmp_path / "oblique", results / "oblique"
    for name in ("oblique_refined.nii.gz", "oblique_hippocampus.stl"):
        assert (folder / name).read_bytes() == (before / name).read_bytes()
    stored = vertex_numbers(read_mesh(folder / "oblique_hippocampus.ply"), "uncertainty_mm")
    (case,) = json.loads((tmp_path / "report.json").read_text())["cases"]
    said = case["structures"][0]["quality"]["uncertainty_mm"]
    np.testing.assert_allclose(np.percentile(stored, [50, 90]), [said["median"], said["p90"]], atol=1e-3)
    assert "Uncertainty, one standard deviation" in (tmp_path / "report.html").read_text()
    assert vertex_numbers(read_mesh(before / "oblique_hippocampus.ply"), "uncertainty_mm") is None
    assert '"uncertainty_mm"' not in (results / "report.json").read_text()


def test_a_preset_without_three_fits_has_no_uncertainty(bundle_root, broken_masks, tmp_path):
    with pytest.raises(Exception, match="uncertainty") as caught:
        refine(bundle_root, broken_masks / "plain.nii.gz", tmp_path, preset="linear", uncertainty=True)
    assert "the preset 'default'" in plain_text_of(caught.value) and not list(tmp_path.iterdir())


def test_meshes_have_the_format_and_the_number_of_triangles_asked_for(bundle_root, broken_masks, tmp_path):
    refine(bundle_root, broken_masks / "oblique.nii.gz", tmp_path, preset="linear", mesh_format="glb", mesh_faces=1500)
    report = json.loads((tmp_path / "report.json").read_text())
    quality = report["cases"][0]["structures"][0]["quality"]
    assert 750 < quality["mesh_faces"] <= 1500 and 0 < quality["mesh_deviation_mm"] < 1.0
    scene = trimesh.load(report["cases"][0]["outputs"]["meshes"])
    (mesh,) = scene.dump()  # in glTF's frame, metres
    image = nib.load(tmp_path / "oblique" / "oblique_refined.nii.gz")
    volume_mm3 = np.count_nonzero(image.dataobj) * abs(np.linalg.det(image.affine[:3, :3]))
    assert mesh.is_watertight and 1e9 * mesh.volume == pytest.approx(volume_mm3, rel=0.02)
    world = np.argwhere(np.asarray(image.dataobj) > 0) @ image.affine[:3, :3].T + image.affine[:3, 3]
    right, front, head = world.mean(axis=0)
    np.testing.assert_allclose(1000 * mesh.center_mass, (-right, head, front), atol=0.8)
    coloured = trimesh.load(tmp_path / "oblique" / "oblique_hippocampus.ply")
    assert len(coloured.faces) == quality["mesh_faces"] and (tmp_path / "report.html").is_file()


def test_thick_slices_come_back_thin_where_that_is_asked_for(bundle_root, broken_masks, tmp_path):
    refine(bundle_root, broken_masks / "flipped.nii.gz", tmp_path, preset="linear", fine_mm=0.7, html=False)
    report = json.loads((tmp_path / "report.json").read_text())
    refined = nib.load(tmp_path / "flipped" / "flipped_refined.nii.gz")
    fine = sitk.ReadImage(report["cases"][0]["outputs"]["fine"])  # another reader's spacing, size and places
    assert fine.GetSize() == (96, 132, 66) and fine.GetSpacing() == pytest.approx((0.45, 0.45, 2 / 3))
    values = sitk.GetArrayFromImage(fine).T
    blocks = values.reshape(48, 2, 66, 2, 22, 3)
    first = np.array(fine.TransformContinuousIndexToPhysicalPoint((0.5, 0.5, 1.0))) * (-1, -1, 1)  # LPS → RAS
    np.testing.assert_allclose(first, refined.affine[:3, 3], atol=1e-4)
    thick = np.asarray(refined.dataobj)
    assert set(np.unique(values)) == {0, 1, 2}
    assert dice((blocks > 0).mean(axis=(1, 3, 5)) >= 0.5, thick > 0) > 0.97
    apart = np.abs(blocks.astype(int) - thick[:, None, :, None, :, None]).max(axis=(1, 3, 5))
    deep = ndimage.maximum_filter(thick, 3) == ndimage.minimum_filter(thick, 3)
    assert (apart[deep] == 0).all()  # only at the surface and the parts' border is it other than blocks


@pytest.mark.parametrize("kind", ["oblique", "flipped"])
def test_on_another_file_s_grid_the_mask_is_what_the_finer_one_is_there(bundle_root, broken_masks, tmp_path, kind):
    """That file has a part of the finer grid, with its axes in another order and reversed."""
    source = broken_masks / f"{kind}.nii.gz"
    refine(bundle_root, source, tmp_path / "finer", preset="linear", fine_mm=0.7, html=False)
    finer = nib.load(tmp_path / "finer" / kind / f"{kind}_fine.nii.gz")
    part = finer.slicer[10:-6, :, 4:]
    turned = nib.as_closest_canonical(part).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    thin = nib.Nifti1Image(np.zeros(turned.shape, np.int16), turned.affine)
    (tmp_path / "thin").mkdir()
    nib.save(thin, tmp_path / "thin" / f"{kind}.nii.gz")
    refine(bundle_root, source, tmp_path / "out", preset="linear", grid=str(tmp_path / "thin"), html=False)
    (case,) = json.loads((tmp_path / "out" / "report.json").read_text())["cases"]
    fine = nib.load(case["outputs"]["fine"])
    stored = nib.load(tmp_path / "thin" / f"{kind}.nii.gz")
    np.testing.assert_array_equal(fine.affine, stored.affine)
    values = np.asarray(fine.dataobj)
    assert (values != np.asarray(turned.dataobj)).sum() <= 2  # affines are stored in single precision
    assert values.any() and "grid" in case["inputs"]


def test_a_grid_that_shows_nothing_is_named_and_the_rest_is_written(bundle_root, broken_masks, tmp_path):
    away = nib.Nifti1Image(np.zeros((9, 9, 9), np.uint8), nib.affines.from_matvec(np.eye(3), (900, 0, 0)))
    nib.save(away, tmp_path / "away.nii.gz")
    out = tmp_path / "out"
    refine(
        bundle_root, broken_masks / "plain.nii.gz", out, preset="linear", grid=str(tmp_path / "away.nii.gz"), html=False
    )
    (case,) = json.loads((out / "report.json").read_text())["cases"]
    assert case["status"] == "refined" and "fine" not in case["outputs"]
    (said,) = [one for one in case["warnings"] if "fine mask" in one]
    assert str(tmp_path / "away.nii.gz") in said and not (out / "plain" / "plain_fine.nii.gz").exists()


def test_meshes_have_the_spacing_asked_for_or_a_finer_one_that_is_named(bundle_root, broken_masks, tmp_path):
    counts = {}
    for mesh_mm in (0.5, 9.0):
        out = tmp_path / str(mesh_mm)
        refine(bundle_root, broken_masks / "plain.nii.gz", out, preset="linear", mesh_mm=mesh_mm, html=False)
        (case,) = json.loads((out / "report.json").read_text())["cases"]
        quality = case["structures"][0]["quality"]
        mesh = trimesh.load(out / "plain" / "plain_hippocampus.stl")
        image = nib.load(out / "plain" / "plain_refined.nii.gz")
        volume_mm3 = np.count_nonzero(image.dataobj) * abs(np.linalg.det(image.affine[:3, :3]))
        assert mesh.is_watertight and mesh.volume == pytest.approx(volume_mm3, rel=0.02)
        counts[mesh_mm] = len(mesh.faces)
        said = [one for one in case["warnings"] if "mesh_mm" in one]
        assert len(said) == (quality["mesh_mm"] < mesh_mm) == (mesh_mm == 9.0)
    assert counts[0.5] > 4 * counts[9.0]


@pytest.mark.parametrize("wrong", [{"mesh_format": "fbx"}, {"mesh_faces": -3}, {"fine_mm": -1.0}, {"mesh_mm": -1.0}])
def test_meshes_that_cannot_be_written_are_refused_at_the_start(bundle_root, broken_masks, tmp_path, wrong):
    with pytest.raises((Exception, SystemExit), match="mesh_[fm]|fine_mm") as caught:
        refine(bundle_root, broken_masks / "plain.nii.gz", tmp_path, preset="linear", **wrong)
    said = str(caught.value) if isinstance(caught.value, SystemExit) else plain_text_of(caught.value)
    assert next(iter(wrong)) in said and not list(tmp_path.iterdir())


def test_nnunet_s_folder_is_refined_as_it_is_and_given_back(bundle_root, broken_masks, results, tmp_path):
    """Other values and names, and another organ: the same result, with the values it came with."""
    image = nib.load(broken_masks / "oblique.nii.gz")
    ours = np.asarray(image.dataobj)
    theirs = np.choose(ours, [0, 5, 3]).astype(np.uint8)
    theirs[0] = 9
    (tmp_path / "masks").mkdir()
    nib.save(nib.Nifti1Image(theirs, image.affine), tmp_path / "masks" / "oblique.nii.gz")
    labels = {"background": 0, "Posterior": 3, "Anterior": 5, "Amygdala": 9}
    (tmp_path / "masks" / "dataset.json").write_text(json.dumps({"labels": labels}))
    refine(bundle_root, tmp_path / "masks", tmp_path / "out")
    expected = np.asarray(nib.load(results / "oblique" / "oblique_refined.nii.gz").dataobj)
    refined = np.asarray(nib.load(tmp_path / "out" / "oblique" / "oblique_refined.nii.gz").dataobj)
    back = nib.load(tmp_path / "out" / "as_given" / "oblique.nii.gz")
    np.testing.assert_array_equal(refined, expected)
    np.testing.assert_array_equal(np.asarray(back.dataobj)[1:], np.choose(expected, [0, 5, 3])[1:])
    assert (np.asarray(back.dataobj)[0] == 9).all() and back.get_data_dtype() == np.uint8
    (case,) = json.loads((tmp_path / "out" / "report.json").read_text())["cases"]
    assert case["left_alone"] == ["Amygdala"] and set(case["volumes_ml"]) == {"1", "2"}


def test_a_run_reads_pack_presets_and_prior_once(bundle_root, broken_masks, tmp_path, monkeypatch):
    """Also the page at its end, and the transforms that hosts build."""
    opened = Counter()
    real = io.open
    monkeypatch.setattr(io, "open", lambda file, *a, **k: opened.update([Path(str(file)).name]) or real(file, *a, **k))
    load = ShapePrior.load
    monkeypatch.setattr(ShapePrior, "load", lambda path, *a: opened.update([Path(path).name]) or load(path, *a))
    refine(bundle_root, broken_masks, tmp_path / "out", preset="linear")
    assert (tmp_path / "out" / "report.html").is_file()
    read = ("organ.yaml", "presets.yaml", "hippocampus.safetensors")
    assert {name: opened[name] for name in read} == dict.fromkeys(read, 1)


@pytest.mark.parametrize(("enlarged", "taken_in"), [(False, True), ("true", False)])
def test_a_mask_far_too_large_is_taken_inward_unless_disease_may_have_enlarged_the_organ(
    bundle_root, tmp_path, enlarged, taken_in
):
    truth, affine = mean_shape("plain")
    (tmp_path / "masks").mkdir()
    wide = ndimage.distance_transform_edt(truth == 0) < 2.0
    nib.save(nib.Nifti1Image(wide.astype(np.uint8), affine), tmp_path / "masks" / "wide.nii.gz")
    refine(bundle_root, tmp_path / "masks", tmp_path / "out", preset="linear", html=False, enlarged=enlarged)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (structure,) = report["cases"][0]["structures"]
    assert (structure["quality"]["taken_in_mm"] > 0) == taken_in
    assert any("far too large" in text for text in structure["quality"]["warnings"]) == taken_in


def test_a_run_takes_its_masks_inward_where_asked_for_and_does_them_again(bundle_root, tmp_path):
    truth, affine = mean_shape("plain")
    (tmp_path / "masks").mkdir()
    wide = ndimage.distance_transform_edt(truth == 0) < 1.1
    nib.save(nib.Nifti1Image(wide.astype(np.uint8), affine), tmp_path / "masks" / "wide.nii.gz")
    options = {"preset": "linear", "html": False, "enlarged": True}
    removed_ml = {}
    for inward_mm in ("", "hippocampus=1"):
        refine(bundle_root, tmp_path / "masks", tmp_path / "out", inward_mm=inward_mm, **options)
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        (structure,) = report["cases"][0]["structures"]
        removed_ml[inward_mm] = structure["quality"]["removed_ml"]
        assert report["settings"]["inward_mm"] == inward_mm
    assert structure["quality"]["inward_mm"] == 1.0 and removed_ml["hippocampus=1"] > removed_ml[""] + 0.5
