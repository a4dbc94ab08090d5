"""Which cases a run has."""

import numpy as np
import pytest

from scripts.cases.find import CaseDataset, case_name, find_cases, list_images, list_masks, match_name, unread
from tests.helpers.volumes import blocks, save


def test_case_name_loses_only_the_ending_of_the_format():
    assert case_name("/a/b/x.1_y.nii.gz") == "x.1_y"
    assert case_name("x.NII") == "x"
    assert case_name("x.seg.nrrd") == case_name("x.NRRD") == case_name("x.mha") == case_name("x.MGZ") == "x"
    with pytest.raises(ValueError, match="x.mnc is no volume that can be read.*: convert it"):
        case_name("x.mnc")


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
    assert list_images(path) == list_masks(path) == [path]


def test_two_single_files_are_meant_for_each_other(tmp_path):
    mask, image = (save(tmp_path / folder / f"{folder}.nii.gz", blocks()) for folder in ("mask", "image"))
    (case,) = find_cases(mask, "pred", {"image": image})
    assert case["case"] == "mask" and case["image"] == str(image)
    (case,) = find_cases(mask.parent, "pred", {"image": image.parent})  # folders are paired by names
    assert "image" not in case


def test_one_grid_goes_with_all_masks_and_a_folder_s_by_names(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "masks" / f"{name}_seed1.nii.gz", blocks())
    one = save(tmp_path / "thin" / "b.nii.gz", blocks())
    cases = CaseDataset(tmp_path / "masks", grid=one)
    assert [case["grid"] for case in cases] == [str(one)] * 2 and cases.evidence == ["grid"]
    assert [case.get("grid") for case in CaseDataset(tmp_path / "masks", grid=one.parent)] == [None, str(one)]
    (case,) = CaseDataset(tmp_path / "masks" / "a_seed1.nii.gz", grid=one)
    assert case["grid"] == str(one)


def test_a_folder_of_no_use_is_a_problem_not_an_error(tmp_path):
    assert "holds no volume" in CaseDataset(tmp_path).problem
    missing = CaseDataset(tmp_path / "none")
    assert "none does not exist" in missing.problem and len(missing) == 0
    save(tmp_path / "masks" / "a.nii.gz", blocks())
    assert "images does not exist" in CaseDataset(tmp_path / "masks", image_dir=tmp_path / "images").problem


@pytest.mark.parametrize("name", ["b.nhdr", "b.mnc", "b.MNC", "b.img.gz"])
def test_files_that_are_not_read_are_named_once_with_the_remedy(tmp_path, caplog, name):
    for folder in ("masks", "images"):
        save(tmp_path / folder / "a.nii.gz", blocks())
        (tmp_path / folder / name).touch()
    cases = CaseDataset(tmp_path / "masks", image_dir=tmp_path / "images")
    assert len(cases) == 1 and not cases.problem
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and all(f"not read: {name}: convert" in line for line in said)
    (tmp_path / "masks" / "a.nii.gz").unlink()
    assert f"not read: {name}: convert" in CaseDataset(tmp_path / "masks").problem


def test_of_many_files_that_are_not_read_some_are_named(tmp_path):
    for number in range(8):
        (tmp_path / f"{number}.mnc").touch()
    assert unread(tmp_path).startswith("not read: 0.mnc, 1.mnc, 2.mnc, 3.mnc, 4.mnc and 3 more: convert")


def test_nnunet_s_probabilities_are_found_beside_its_label_maps(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / f"{name}.nii.gz", blocks())
        (tmp_path / f"{name}.npz").touch()
    cases = find_cases(tmp_path, "pred", {"prob": tmp_path})
    assert [case["prob"] for case in cases] == [str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    (case,) = find_cases(tmp_path / "a.nii.gz", "pred", {"prob": tmp_path / "a.npz"})
    assert case["prob"] == str(tmp_path / "a.npz")


@pytest.mark.parametrize("image", [".nrrd", ".mha", ".mhd"])
def test_masks_may_be_of_other_formats_beside_their_images(tmp_path, caplog, image):
    names = ("a.seg.nrrd", f"a{image}", f"a_ct{image}", "b.nrrd", "c.nii.gz", f"c{image}", ".d.seg.nrrd")
    for name in names:
        (tmp_path / name).touch()
    assert [f.name for f in list_masks(tmp_path)] == ["a.seg.nrrd", "b.nrrd", "c.nii.gz"]
    assert [f.name for f in list_masks(tmp_path / "b.nrrd")] == ["b.nrrd"]
    cases = find_cases(tmp_path, "pred", {"image": tmp_path}, list_masks)
    assert [case["case"] for case in cases] == ["a", "b", "c"] and not caplog.records
    assert [case.get("image") for case in cases] == [str(tmp_path / f"a{image}"), None, str(tmp_path / f"c{image}")]


def test_images_and_masks_are_listed_in_every_format_that_is_read(tmp_path):
    names = ["a.nii.gz", "b.nii", "c.nrrd", "d.mha", "e.mhd"]
    for name in (*names, "e.raw", "notes.txt"):
        (tmp_path / name).touch()
    assert [f.name for f in list_images(tmp_path)] == [f.name for f in list_masks(tmp_path)] == names
    for key in ("image", "pred"):
        assert [case["case"] for case in find_cases(tmp_path, key)] == ["a", "b", "c", "d", "e"]
        assert find_cases(tmp_path / "d.mha", key)[0][key] == str(tmp_path / "d.mha")
    with pytest.raises(ValueError, match="notes.txt is no volume that can be read.*convert"):
        find_cases(tmp_path / "notes.txt", "image")
