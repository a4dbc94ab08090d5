"""Which cases a run has."""

import numpy as np
import pytest

from scripts.cases.find import CaseDataset, case_name, find_cases, list_volumes, match_name
from tests.helpers.volumes import blocks, save


def test_case_name_loses_only_the_nifti_ending():
    assert case_name("/a/b/x.1_y.nii.gz") == "x.1_y"
    assert case_name("x.NII") == "x"
    with pytest.raises(ValueError, match="x.nrrd is not a NIfTI"):
        case_name("x.nrrd")


@pytest.mark.parametrize(
    "name, expected",
    [
        ("thorax_09", "thorax_09"),
        ("thorax_09_seed123", "thorax_09"),
        ("thorax_091", "thorax"),
        ("thorax_09_b_1", "thorax_09_b"),
        ("liver_09", None),
    ],
)
def test_longest_beginning_wins(name, expected):
    assert match_name(name, ["thorax", "thorax_0", "thorax_09", "thorax_09_b"]) == expected


def test_cases_with_their_evidence(tmp_path):
    for name in ("b_seed1", "a", "c"):
        save(tmp_path / "masks" / f"{name}.nii.gz", blocks())
    save(tmp_path / "masks" / "deeper" / "d.nii.gz", blocks())
    (tmp_path / "masks" / ".hidden.nii.gz").touch()
    (tmp_path / "masks" / "notes.txt").touch()
    save(tmp_path / "images" / "a.nii", blocks())
    save(tmp_path / "images" / "b.nii.gz", blocks())
    cases = find_cases(tmp_path / "masks", "pred", {"image": tmp_path / "images", "prob": None})
    assert [case["case"] for case in cases] == ["a", "b_seed1", "c"]
    assert [case.get("image") for case in cases] == [
        str(tmp_path / "images" / "a.nii"),
        str(tmp_path / "images" / "b.nii.gz"),
        None,
    ]
    assert not any("prob" in case or case["reason"] for case in cases)


def test_same_case_twice_says_which_files(tmp_path):
    save(tmp_path / "a.nii", blocks())
    save(tmp_path / "a.nii.gz", blocks())
    save(tmp_path / "b.nii", blocks())
    first, second = find_cases(tmp_path, "pred")
    assert "a.nii and" in first["reason"] and "a.nii.gz" in first["reason"] and "rename" in first["reason"]
    assert second["reason"] == ""


def test_one_file_is_a_dataset(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.ones((2, 2, 2), np.uint8))
    assert list_volumes(path) == [path]


def test_two_single_files_are_meant_for_each_other(tmp_path):
    mask, image = (save(tmp_path / folder / f"{folder}.nii.gz", blocks()) for folder in ("mask", "image"))
    (case,) = find_cases(mask, "pred", {"image": image})
    assert case["case"] == "mask" and case["image"] == str(image)
    (case,) = find_cases(mask.parent, "pred", {"image": image.parent})  # folders are paired by names
    assert "image" not in case


def test_a_folder_of_no_use_is_a_problem_not_an_error(tmp_path):
    assert "holds no .nii.gz" in CaseDataset(tmp_path).problem
    missing = CaseDataset(tmp_path / "none")
    assert "none does not exist" in missing.problem and len(missing) == 0
    save(tmp_path / "masks" / "a.nii.gz", blocks())
    assert "images does not exist" in CaseDataset(tmp_path / "masks", image_dir=tmp_path / "images").problem
