"""A case's hash: it changes with all that a case is read from, and with nothing else."""

import json
import shutil

import pytest

from scripts.cases.digest import input_hash
from tests.helpers.volumes import blocks, save


@pytest.fixture
def inputs(tmp_path):
    """A case of a mask and an image."""
    mask, image = save(tmp_path / "masks" / "a.nii.gz", blocks()), save(tmp_path / "images" / "a.nii.gz", blocks())
    return {"pred": str(mask), "image": str(image)}


def test_the_same_content_has_the_same_hash_wherever_its_folder_lies(inputs, tmp_path):
    shutil.copytree(tmp_path / "masks", tmp_path / "moved" / "masks")
    moved = {**inputs, "pred": str(tmp_path / "moved" / "masks" / "a.nii.gz")}
    assert input_hash(moved) == input_hash(dict(reversed(inputs.items()))) != ""


@pytest.mark.parametrize("key", ["pred", "image"])
def test_other_content_of_any_file_another_name_or_a_file_less_changes_the_hash(inputs, tmp_path, key):
    before = input_hash(inputs)
    assert input_hash({other: path for other, path in inputs.items() if other != key}) != before
    renamed = shutil.copy(inputs[key], tmp_path / "b.nii.gz")
    assert input_hash({**inputs, key: str(renamed)}) != before
    save(tmp_path / f"{'masks' if key == 'pred' else 'images'}" / "a.nii.gz", blocks() * 0)
    assert input_hash(inputs) != before


def test_what_belongs_to_a_file_counts(tmp_path):
    """The names of its values, the voxels beside a header, and the masks of a folder."""
    mask = {"pred": str(save(tmp_path / "a.nii.gz", blocks()))}
    before = input_hash(mask)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    assert input_hash(mask) != before
    (tmp_path / "b.mhd").write_text("NDims = 3\nDimSize = 1 1 1\nElementType = MET_UCHAR\nElementDataFile = b.raw\n")
    (tmp_path / "b.raw").write_bytes(b"\0")
    before = input_hash({"pred": str(tmp_path / "b.mhd")})
    (tmp_path / "b.raw").write_bytes(b"\1")
    assert "" != input_hash({"pred": str(tmp_path / "b.mhd")}) != before
    save(tmp_path / "case" / "segmentations" / "liver.nii.gz", blocks())
    before = input_hash({"pred": str(tmp_path / "case")})
    save(tmp_path / "case" / "segmentations" / "liver.nii.gz", blocks() * 0)
    assert input_hash({"pred": str(tmp_path / "case")}) != before


def test_what_cannot_be_read_has_none(tmp_path):
    assert input_hash({"pred": str(tmp_path / "gone.nii.gz")}) == ""
