"""A pack for an organ that has none: what it takes from the label maps."""

import nibabel as nib
import numpy as np
import pytest
import yaml

from scripts.cases.sources import LabelSource
from scripts.refine.settings import RefineSettings
from scripts.shapes.new_pack import LARGE_MM, LENGTHS, lengths, load_or_create_pack
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


def test_label_maps_without_labels_make_no_pack(tmp_path):
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "labels" / "a.nii.gz")
    with pytest.raises(ValueError, match="hold no labels"):
        load_or_create_pack(str(tmp_path / "pack"), tmp_path / "labels")


def test_small_structures_are_refined_by_lengths_of_their_own_size(tmp_path):
    """Two boxes of 10 and of 60 mm edges on anisotropic voxels, the middle one of three sizes counts."""
    (tmp_path / "labels").mkdir()
    for number, edge in enumerate((4, 10, 30)):
        labels = np.zeros((70, 70, 64), np.uint8)
        labels[2 : 2 + edge, 2:12, 2:7] = 1
        labels[:60, 10:70, 20:50] = np.maximum(labels[:60, 10:70, 20:50], 2)
        nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "labels" / f"{number}.nii.gz")
    pack = load_or_create_pack(str(tmp_path / "pack"), tmp_path / "labels")
    small, large = pack.structures
    default = RefineSettings.load()
    assert RefineSettings.load("default", pack, large) == default
    own = RefineSettings.load("default", pack, small)
    factor = (3 * 1000 / (4 * np.pi)) ** (1 / 3) / LARGE_MM
    for key in LENGTHS:
        assert getattr(own, key) == pytest.approx(factor * getattr(default, key), abs=0.006)
    assert own.min_region_mm3 == pytest.approx(factor**3 * default.min_region_mm3, abs=0.06)
    written = yaml.safe_load((tmp_path / "pack" / "organ.yaml").read_text())["structures"]
    assert list(written[0]["refine"]) == [*LENGTHS, "min_region_mm3"] and "refine" not in written[1]


def test_lengths_meet_the_presets_at_the_size_that_these_suit():
    just_below = lengths(4 / 3 * np.pi * (0.999 * LARGE_MM) ** 3)["refine"]
    assert just_below["tau_mm"] == RefineSettings.load().tau_mm
    assert lengths(4 / 3 * np.pi * (1.001 * LARGE_MM) ** 3) == {}
