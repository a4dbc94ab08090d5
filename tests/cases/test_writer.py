"""Masks and meshes of a case: names that masks keep; beside the STL a PLY with correspondence, whole or not at all."""

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import trimesh
from monai.data import MetaTensor

from scripts.cases import files
from scripts.cases.find import CASE
from scripts.cases.label_names import names_of, table_of
from scripts.cases.mesh import UNCERTAINTY, read_mesh, vertex_numbers
from scripts.cases.read import open_volume
from scripts.cases.writer import CaseWriter
from scripts.organ.palette import structure_colours
from tests.helpers.fake_chain import BALL, KeepLargestd
from tests.helpers.publishers import frame_lps, segments, write_nrrd
from tests.helpers.volumes import AFFINES, blocks, save


@pytest.fixture
def case(tmp_path):
    """Paths and data of a case after the (fake) chain."""
    source = save(tmp_path / "a.nii.gz", blocks())
    labels = torch.as_tensor(blocks()[None])
    return {"case": "a", "pred": str(source)}, {"initial": labels, **KeepLargestd()({"pred": labels})}


@pytest.mark.parametrize("kind", ["nrrd", "beside", "header"])
def test_a_mask_that_was_not_read_as_one_keeps_the_names_of_its_values(tmp_path, kind):
    mask = np.zeros((12, 13, 14), np.int16)
    mask[3:5], mask[7:9] = 3, 40
    source = tmp_path / ("a.nrrd" if kind == "nrrd" else "a.nii.gz")
    if kind == "nrrd":
        write_nrrd(source, mask, frame_lps(0, (1, 1, 1)), **segments({3: "liver", 40: "lung"}))
    else:
        stored = nib.Nifti1Image(mask, np.eye(4))
        stored.header.set_slope_inter(2.0, 1.0)
        if kind == "header":
            stored.header.extensions.append(table_of({3: "liver", 40: "lung"}))
        else:
            (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"liver": 3, "lung": 40}}))
        nib.save(stored, source)
    (tmp_path / "out").mkdir()
    outputs = CaseWriter(tmp_path / "out").keep({CASE: "a", "pred": str(source)}, {})
    for stage in ("initial", "refined"):
        written = Path(outputs[stage])
        assert names_of(written) == {3: ["liver"], 40: ["lung"]}
        np.testing.assert_array_equal(nib.load(written).get_fdata(), open_volume(source).get_fdata())
        assert kind != "header" or written.read_bytes() == source.read_bytes()


def test_stl_and_ply_hold_the_same_mesh(case, tmp_path):
    (tmp_path / "out").mkdir()
    outputs = CaseWriter(tmp_path / "out").write(*case)
    assert outputs["organ_2"].endswith("a_organ_2.stl") and outputs["organ_2_correspondence"].endswith("a_organ_2.ply")
    coloured = trimesh.load(outputs["organ_2_correspondence"], process=False)
    np.testing.assert_allclose(coloured.vertices, BALL.vertices, atol=1e-6)
    assert (coloured.visual.vertex_colors[:, :3] == 20).all()
    assert trimesh.load(outputs["organ_2"]).volume == pytest.approx(coloured.volume, rel=1e-5)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_mask_on_a_file_s_grid_has_that_file_s_header(case, tmp_path, affine):
    """Affine, codes, units and size, as another reader finds them, too."""
    paths, data = case
    image = nib.Nifti1Image(np.arange(120, dtype=np.float32).reshape(4, 5, 6, 1), affine)
    image.set_sform(affine, 4)
    image.set_qform(affine, 3)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "thin.nii.gz")
    fine = torch.zeros(1, 4, 5, 6, dtype=torch.uint8)
    fine[0, 1:3, 2, 3:] = 2
    (tmp_path / "out").mkdir()
    paths = {**paths, "grid": str(tmp_path / "thin.nii.gz")}
    outputs = CaseWriter(tmp_path / "out").write(paths, {**data, "pred_fine": MetaTensor(fine, affine=affine)})
    written = nib.load(outputs["fine"])
    assert written.get_data_dtype() == np.uint8 and Path(outputs["fine"]).name == "a_fine.nii.gz"
    assert int(written.header["sform_code"]) == 4 and int(written.header["qform_code"]) == 3
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "thin.nii.gz").affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj)[..., 0], fine[0])
    ours, theirs = (sitk.ReadImage(file)[..., 0] for file in (outputs["fine"], str(tmp_path / "thin.nii.gz")))
    assert ours.GetSize() == theirs.GetSize() and ours.GetOrigin() == theirs.GetOrigin()
    assert ours.GetSpacing() == theirs.GetSpacing() and ours.GetDirection() == theirs.GetDirection()


@pytest.mark.parametrize("name", ["stl", "ply", "obj", "vtp", "glb"])
def test_uncertainty_stands_in_the_ply_beside_every_format_and_in_the_vtp(case, tmp_path, name):
    (tmp_path / "out").mkdir()
    paths, data = case
    known = np.linspace(0.2, 3.0, len(BALL.vertices)).astype(np.float32)
    data["pred_shapes"][1].uncertainty_mm = known
    outputs = CaseWriter(tmp_path / "out", mesh_format=name).write(paths, data)
    stored = vertex_numbers(read_mesh(outputs["organ_2_correspondence"]), UNCERTAINTY)
    np.testing.assert_array_equal(stored, known)
    assert vertex_numbers(read_mesh(outputs["organ_1_correspondence"]), UNCERTAINTY) is None
    if name == "vtp":
        assert 'Name="uncertainty_mm"' in Path(outputs["organ_2"]).read_text()


def test_meshes_are_written_in_the_frame_that_is_asked_for(case, tmp_path):
    (tmp_path / "out").mkdir()
    outputs = CaseWriter(tmp_path / "out", mesh_space="LPS").write(*case)
    for key in ("organ_2", "organ_2_correspondence"):
        loaded = trimesh.load(outputs[key], process=False)
        np.testing.assert_allclose(loaded.bounds[0][:2], -BALL.bounds[1][:2], atol=1e-6)
    with pytest.raises(ValueError, match="mesh_space"):
        CaseWriter(tmp_path / "out", mesh_space="north")


def test_no_half_written_ply_is_left(case, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    replace = files.os.replace

    def fail(source, target):
        if str(target).endswith(".ply"):
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        CaseWriter(tmp_path / "out").write(*case)
    names = sorted(p.name for p in (tmp_path / "out" / "a").iterdir())
    assert names == ["a_initial.nii.gz", "a_organ_1.stl", "a_refined.nii.gz"]


def test_a_mesh_without_correspondence_has_no_ply(case, tmp_path):
    (tmp_path / "out").mkdir()
    paths, data = case
    data["pred_shapes"] = [SimpleNamespace(name="organ", mesh=BALL, correspondence=None, uncertainty_mm=None)]
    assert set(CaseWriter(tmp_path / "out").write(paths, data)) == {"initial", "refined", "organ"}


@pytest.mark.parametrize("name", ["ply", "obj", "vtp"])
def test_another_format_takes_the_place_of_the_stl(case, tmp_path, name):
    (tmp_path / "out").mkdir()
    outputs = CaseWriter(tmp_path / "out", mesh_format=name.upper()).write(*case)
    assert outputs["organ_2"].endswith(f"a_organ_2.{name}")
    assert outputs["organ_2_correspondence"].endswith("a_organ_2.ply")
    endings = {file.suffix for file in (tmp_path / "out" / "a").iterdir()}
    assert endings == {".gz", ".ply", f".{name}"}
    with pytest.raises(ValueError, match="mesh_format"):
        CaseWriter(tmp_path / "out", mesh_format="fbx")


def test_a_case_is_one_scene_with_the_colours_of_its_structures(case, tmp_path):
    (tmp_path / "out").mkdir()
    paths, data = case
    first, second = data["pred_shapes"]
    data["pred_shapes"] = [SimpleNamespace(name="lost", mesh=None), first, second]
    outputs = CaseWriter(tmp_path / "out", mesh_format="glb").write(paths, data)
    assert outputs["meshes"].endswith("a_meshes.glb") and "organ_1" not in outputs
    loaded = trimesh.load(outputs["meshes"])
    assert list(loaded.geometry) == ["organ_1", "organ_2"]
    shades = [part.visual.material.baseColorFactor[:3] for part in loaded.geometry.values()]
    lights = [255 * ((np.array(colour) / 255 + 0.055) / 1.055) ** 2.4 for colour in structure_colours(3)[1:]]
    np.testing.assert_allclose(shades, lights, atol=1.5)
    assert {file.name for file in (tmp_path / "out" / "a").iterdir() if file.suffix == ".ply"} == {
        "a_organ_1.ply",
        "a_organ_2.ply",
    }


def test_nothing_left_of_a_case_writes_no_scene(case, tmp_path):
    (tmp_path / "out").mkdir()
    paths, data = case
    data["pred_shapes"] = [SimpleNamespace(name="lost", mesh=None)]
    assert set(CaseWriter(tmp_path / "out", mesh_format="glb").write(paths, data)) == {"initial", "refined"}


def test_meshes_of_an_earlier_run_in_another_format_go(case, tmp_path):
    (tmp_path / "out").mkdir()
    paths, data = case
    outputs = CaseWriter(tmp_path / "out", mesh_format="glb").write(paths, data)
    CaseWriter(tmp_path / "out").clear(paths, [Path(file).name for file in outputs.values()])
    assert not list((tmp_path / "out" / "a").iterdir())
