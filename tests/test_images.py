"""Which files train and test an organ's U-Net, and its structures as channels."""

import json

import pytest
import torch

from scripts.images import structure_channels, training_pairs
from scripts.organ import OrganPack


def names(pairs):
    return [pair["label"].rsplit("/", 1)[1].split(".")[0] for pair in pairs]


@pytest.fixture
def folder(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        for number in range(10):
            (tmp_path / part / f"case_{number}.nii.gz").touch()
    return tmp_path


@pytest.fixture
def task(tmp_path):
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
        for number in range(10):
            (tmp_path / part / f"case_{number}.nii.gz").touch()
    listed = [{"image": f"./imagesTr/case_{n}.nii.gz", "label": f"./labelsTr/case_{n}.nii.gz"} for n in range(10)]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": listed, "test": ["./imagesTs/case_10.nii.gz"]}))
    return tmp_path


@pytest.mark.parametrize("layout", ["folder", "task"])
def test_without_a_split_the_last_cases_are_held_out(layout, request):
    data = request.getfixturevalue(layout)
    assert names(training_pairs(data, {}, "train")) == [f"case_{n}" for n in range(8)]
    assert names(training_pairs(data, {}, "validation")) == names(training_pairs(data, {}, "test"))
    assert names(training_pairs(data, {}, "validation")) == ["case_8", "case_9"]


@pytest.mark.parametrize("layout", ["folder", "task"])
def test_a_split_without_validation_takes_it_from_its_training_part(layout, request):
    data = request.getfixturevalue(layout)
    split = {"train": [f"case_{n}.nii.gz" for n in range(6)], "validation": [], "test": ["case_9.nii.gz"]}
    assert names(training_pairs(data, split, "train")) == [f"case_{n}" for n in range(5)]
    assert names(training_pairs(data, split, "validation")) == ["case_5"]
    assert names(training_pairs(data, split, "test")) == ["case_9"]


def test_a_split_of_other_data_does_not_count(folder):
    split = {"train": ["case_0.nii.gz", "else_1.nii.gz"], "validation": ["case_1.nii.gz"]}
    assert names(training_pairs(folder, split, "validation")) == ["case_8", "case_9"]


def test_a_task_may_name_its_own_validation_cases(task):
    description = json.loads((task / "dataset.json").read_text())
    description["validation"] = [description["training"].pop(0)]
    (task / "dataset.json").write_text(json.dumps(description))
    assert names(training_pairs(task, {}, "validation")) == ["case_0"]
    assert names(training_pairs(task, {}, "train")) == [f"case_{n}" for n in range(1, 10)]


def test_what_is_wrong_with_a_task_is_said(task):
    (task / "labelsTr" / "case_3.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"dataset\.json names .*case_3\.nii\.gz, which is not there"):
        training_pairs(task, {}, "train")
    (task / "dataset.json").write_text("[]")
    with pytest.raises(ValueError, match="no description of a Decathlon task"):
        training_pairs(task, {}, "train")


def test_absent_data_are_empty(tmp_path):
    assert training_pairs(tmp_path / "nowhere", {}, "train") == []


def test_structures_are_unions_of_labels(tmp_path):
    (tmp_path / "organ.yaml").write_text(
        "name: x\nlabels: {4: a, 2: b, 3: c}\nstructures: [{name: ac, labels: [4, 3]}, {name: b, labels: [2]}]\n"
    )
    one_hot = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 3])).T.reshape(4, 4, 1, 1)  # background, 2, 3, 4
    channels = structure_channels(one_hot, OrganPack.load(tmp_path))
    assert channels.reshape(2, 4).tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]
