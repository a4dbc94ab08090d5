"""A pack for an organ that has none: what it takes from the label maps."""

import json

import nibabel as nib
import numpy as np
import pytest
import yaml

from scripts.cases.sources import LabelSource
from scripts.organ.pack import OrganPack
from scripts.refine.settings import RefineSettings
from scripts.shapes.new_pack import LARGE_MM, load_or_create_pack, loss_scale
from scripts.training.prior.job import split_files
from tests.helpers.ellipsoid_files import ellipsoid_radii, write_ellipsoids


def test_a_pack_is_made_from_the_labels_found(organ, tmp_path):
    pack = load_or_create_pack(str(tmp_path / "blob"), organ[1])
    assert pack.labels == {1: "blob"} and (tmp_path / "blob" / "organ.yaml").is_file()
    files = split_files(pack, organ[1])
    assert len(files["train"]) == 7 and [f.name for f in files["validation"]] == ["case_07.nii.gz"]
    assert len(split_files(pack, organ[1], 0.0)["train"]) == 8


def test_a_new_pack_takes_the_names_of_nnunet(tmp_path):
    files = write_ellipsoids(tmp_path / "task" / "labelsTr", ellipsoid_radii(2, seed=0))
    (tmp_path / "task" / "labelsTr" / "a.nii.gz").write_bytes(b"no image")
    (tmp_path / "task" / "dataset.json").write_text('{"labels": {"background": 0, "Left Egg": 1, "spoon": 2}}')
    pack = load_or_create_pack(str(tmp_path / "pack"), tmp_path / "task" / "labelsTr")
    assert pack.labels == {1: "left_egg"} and [s.name for s in pack.structures] == ["left_egg"]
    assert not LabelSource.of(pack).key(files[0])


@pytest.mark.parametrize("label", [2, "2", "pack_2", [2]])
def test_a_pack_has_structures_of_the_labels_that_are_asked_for(tmp_path, label):
    values = np.zeros((12, 12, 12), np.int16)
    values[2:5], values[6:9] = 1, 2
    save(tmp_path / "labels" / "a.nii.gz", values)
    with pytest.raises(ValueError, match=r"--label spleen: the label maps hold pack_1 \(1\), pack_2 \(2\); give one"):
        load_or_create_pack(str(tmp_path / "pack"), tmp_path / "labels", "spleen")
    assert not (tmp_path / "pack").exists()
    pack = load_or_create_pack(str(tmp_path / "pack"), tmp_path / "labels", label)
    assert [s.labels for s in pack.structures] == [(2,)]
    assert list(pack.labels.items()) == [(1, "pack_1"), (2, "pack")] and [s.name for s in pack.structures] == ["pack"]


def test_a_single_structure_that_the_label_maps_name_keeps_its_name(tmp_path):
    save(tmp_path / "labels" / "a.nii.gz", boxes(1, 2))
    (tmp_path / "labels" / "dataset.json").write_text('{"labels": {"background": 0, "liver": 1, "spleen": 2}}')
    pack = load_or_create_pack(str(tmp_path / "organs"), tmp_path / "labels", "spleen")
    assert [s.name for s in pack.structures] == ["spleen"] and pack.labels == {1: "liver", 2: "spleen"}


def test_label_maps_without_labels_make_no_pack(tmp_path):
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "labels" / "a.nii.gz")
    with pytest.raises(ValueError, match="hold no labels"):
        load_or_create_pack(str(tmp_path / "pack"), tmp_path / "labels")


def test_structures_are_refined_by_a_loss_scale_of_their_own_size(tmp_path):
    """Two boxes of 10 and of 60 mm edges on anisotropic voxels, the middle one of three sizes counts."""
    (tmp_path / "labels").mkdir()
    for number, edge in enumerate((4, 10, 30)):
        labels = np.zeros((70, 70, 64), np.uint8)
        labels[2 : 2 + edge, 2:12, 2:7] = 1
        labels[:60, 10:70, 20:50] = np.maximum(labels[:60, 10:70, 20:50], 2)
        nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "labels" / f"{number}.nii.gz")
    pack = load_or_create_pack(str(tmp_path / "pack"), tmp_path / "labels")
    default = RefineSettings.load()
    small, large = (RefineSettings.load("default", pack, structure) for structure in pack.structures)
    factor = (3 * 10**3 / (4 * np.pi)) ** (1 / 3) / LARGE_MM
    assert small.loss_scale_mm == pytest.approx(factor * default.loss_scale_mm, abs=0.006)
    assert large == default and loss_scale(4 / 3 * np.pi * LARGE_MM**3) == {}
    written = yaml.safe_load((tmp_path / "pack" / "organ.yaml").read_text())["structures"]
    assert list(written[0]["refine"]) == ["loss_scale_mm"] and "refine" not in written[1]


def save(path, values, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)


def boxes(*values):
    labels = np.zeros((20, 20, 20), np.uint8)
    for place, value in enumerate(values):
        labels[2:18, 2:18, 1 + 4 * place : 4 + 4 * place] = value
    return labels


def test_names_that_cannot_be_names_of_files_become_such(tmp_path):
    """Names of other models as they come: separators, the same twice, a name of another file of the pack."""
    save(tmp_path / "labels" / "a.nii.gz", boxes(1, 2, 3, 4))
    names = {"background": 0, "../../evil/(x)": 1, "Cyst": 2, "cyst": 3, "joint": 4}
    (tmp_path / "labels" / "dataset.json").write_text(json.dumps({"labels": names}))
    pack = load_or_create_pack(str(tmp_path / "my pack (v1.0)"), tmp_path / "labels")
    assert pack.labels == {1: "____evil_x_", 2: "cyst", 3: "cyst_3", 4: "joint_4"} and pack.name == "my_pack_v1_0_"
    assert all(structure.prior.parent == pack.folder for structure in pack.structures)
    assert LabelSource.of(pack).label_of("../../evil/(x)") == 1 and LabelSource.of(pack).label_of("joint") == 4
    assert OrganPack.load(pack.folder) == pack and list(RefineSettings.of_pack(pack)) == list(pack.labels.values())


def test_files_that_hold_no_labels_are_passed_over_and_named(tmp_path, caplog):
    save(tmp_path / "labels" / "a_ct.nii.gz", boxes(1).astype(np.int16) * 3000 - 1000)
    save(tmp_path / "labels" / "b_soft.nii.gz", boxes(1).astype(np.float32) * 0.3)
    save(tmp_path / "labels" / "c.nii.gz", boxes(7).astype(np.float32))
    pack = load_or_create_pack(str(tmp_path / "pack"), tmp_path / "labels")
    assert pack.labels == {7: "pack"}
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("passed over a_ct.nii.gz:") and said[1].startswith("passed over b_soft.nii.gz:")
    assert all("move it out of" in line for line in said[:2])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_stray_scan_of_whole_positive_numbers_makes_no_structures(tmp_path, caplog, dtype):
    scan = np.random.default_rng(0).integers(0, 234, (20, 20, 20))
    save(tmp_path / "labels" / "a_scan.nii.gz", scan.astype(dtype))
    save(tmp_path / "labels" / "b.nii.gz", boxes(1, 2))
    pack = load_or_create_pack(str(tmp_path / "pack"), tmp_path / "labels")
    assert list(pack.labels) == [1, 2]
    said = caplog.records[0].getMessage()
    assert said.startswith("passed over a_scan.nii.gz: it looks like an image, with 234 values; move it out of")


def test_many_labels_are_no_image(tmp_path):
    parcels = np.arange(1000).reshape(10, 10, 10).repeat(4, 0).repeat(4, 1).repeat(4, 2).astype(np.int16)
    save(tmp_path / "labels" / "a.nii.gz", parcels)
    assert len(load_or_create_pack(str(tmp_path / "pack"), tmp_path / "labels").labels) == 999


def test_a_label_that_is_nearly_whole_is_that_label(tmp_path):
    save(tmp_path / "labels" / "a.nii.gz", boxes(1, 2).astype(np.float32) * np.float32(0.998))
    assert list(load_or_create_pack(str(tmp_path / "pack"), tmp_path / "labels").labels) == [1, 2]


def test_a_new_pack_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    save(tmp_path / "labels" / "a.nii.gz", boxes(1))
    monkeypatch.setattr(yaml, "safe_dump", lambda *args, **options: 3)  # cannot be written
    with pytest.raises((TypeError, AttributeError)):
        load_or_create_pack(str(tmp_path / "pack"), tmp_path / "labels")
    assert list((tmp_path / "pack").iterdir()) == []


@pytest.mark.parametrize("organ", ["..", "$x", ""])
def test_a_name_that_no_folder_may_have_makes_no_pack(tmp_path, organ):
    save(tmp_path / "labels" / "a.nii.gz", boxes(1))
    with pytest.raises(ValueError, match="organ must be a name"):
        load_or_create_pack(organ, tmp_path / "labels")
