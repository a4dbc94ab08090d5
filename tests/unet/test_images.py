"""Reading images, which files train and test an organ's U-Net, and its structures as channels."""

import json

import numpy as np
import pytest
import torch

from scripts.cases.errors import UnreadableCase, UnrefinableCase
from scripts.organ.imaging import Intensity
from scripts.organ.pack import OrganPack
from scripts.unet.images import ReadImaged, structure_channels, too_large, training_pairs, unit_intensity
from tests.helpers.publishers import LPS, write_meta_image, write_nrrd
from tests.helpers.volumes import AFFINES, blocks, save, save_with_nan_affine


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_image_is_read_with_its_affine(tmp_path, affine):
    path = save(tmp_path / "a.nii.gz", blocks(np.float32), affine)
    done = ReadImaged("image")({"image": str(path), "other": 3})
    np.testing.assert_array_equal(done["image"], blocks())
    np.testing.assert_allclose(done["image"].affine, affine, atol=1e-6)
    assert done["other"] == 3


WRITERS = {".nrrd": write_nrrd, ".seg.nrrd": write_nrrd, ".mha": write_meta_image, ".mhd": write_meta_image}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("ending", WRITERS)
def test_images_and_labels_are_read_alike_in_every_format(tmp_path, affine, ending):
    nifti = save(tmp_path / "a.nii.gz", blocks(np.int16), affine)
    other = WRITERS[ending](tmp_path / f"b{ending}", blocks(np.int16), LPS @ affine)
    read = ReadImaged(["image", "label"], ensure_channel_first=True)
    for first, second in ((nifti, other), (other, nifti)):
        done = read({"image": str(first), "label": str(second)})
        for key in ("image", "label"):
            np.testing.assert_array_equal(done[key][0], blocks())
            np.testing.assert_allclose(done[key].affine, affine, atol=1e-4)


@pytest.mark.parametrize(("known_mm", "said"), [((60, 90, 80), False), ((60, 80, 30), True), (None, False)])
def test_an_image_much_larger_than_those_of_the_training_is_named(known_mm, said):
    text = too_large((24, 80, 60), np.array([[0, -1.0, 0, 0], [0, 0, 2, 0], [2, 0, 0, 0], [0, 0, 0, 1]]), known_mm)
    assert bool(text) is said and (not said or "80 × 120 × 48 mm" in text and "60 × 80 × 30 mm" in text)


def test_a_piece_of_metal_does_not_darken_an_image():
    """16 of 4,096 voxels a hundred times as bright: the others stay within a percent of their range."""
    image = torch.rand(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    metal = image.clone()
    metal[0, :4, :4, 0] = 100.0
    organ = (slice(None), slice(4, None))
    plain, beside = (
        unit_intensity("image", Intensity("percentiles"))({"image": one})["image"] for one in (image, metal)
    )
    assert plain.min() == beside.min() == 0 and plain.max() == beside.max() == 1
    torch.testing.assert_close(beside[organ], plain[organ], atol=0.01, rtol=0)
    assert unit_intensity("image", Intensity())({"image": metal})["image"][organ].max() < 0.011


def test_an_image_of_little_else_than_air_has_the_range_of_all():
    image = torch.full((1, 20, 20, 20), -1000.0)
    image[0, 0, 0, :16] = torch.linspace(0.0, 40.0, 16)
    found = unit_intensity("image", Intensity("percentiles"))({"image": image})["image"]
    assert found.min() == 0 and found.max() == 1 and found[0, 0, 0, 0] == pytest.approx(1000 / 1040)


def test_images_of_whole_numbers_are_scaled():
    image = torch.arange(8000).reshape(1, 20, 20, 20).short()
    found = unit_intensity("image", Intensity("percentiles"))({"image": image})["image"]
    assert found.min() == 0 and found.max() == 1 and found[0, 10, 0, 0] == pytest.approx(0.5, abs=0.01)


def test_image_that_a_host_has_read_is_left_alone():
    image = torch.rand(2, 3, 4)
    assert ReadImaged("image")({"image": image, "other": 3}) == {"image": image, "other": 3}


def test_file_that_cannot_be_read_is_named(tmp_path):
    whole = save(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(12, 10, 8)))
    bad = {
        "cut": whole.read_bytes()[:2000],
        "text": b"this is no image",
    }
    for name, content in bad.items():
        (tmp_path / f"{name}.nii.gz").write_bytes(content)
        with pytest.raises(UnreadableCase, match=f"{name}.nii.gz cannot be read"):
            ReadImaged("image")({"image": str(tmp_path / f"{name}.nii.gz")})
    (tmp_path / "scan.nrrd").write_text("this is no image")
    with pytest.raises(UnreadableCase, match="scan.nrrd cannot be read as NRRD"):
        ReadImaged("image")({"image": str(tmp_path / "scan.nrrd")})
    for path, named in ((str(tmp_path / "nowhere.nii.gz"),) * 2, ("", "that was asked for")):
        with pytest.raises(UnreadableCase, match=f"the image '?{named}'? does not exist: check its name"):
            ReadImaged("image")({"image": path})


def test_file_without_place_in_the_world_is_named(tmp_path):
    nan = save_with_nan_affine(tmp_path / "nan.nii.gz", blocks())
    with pytest.raises(UnrefinableCase, match="nan.nii.gz: .*NaN"):
        ReadImaged("image")({"image": str(nan)})
    four = save(tmp_path / "four.nii.gz", np.zeros((4, 4, 4, 2), np.float32))
    with pytest.raises(UnrefinableCase, match="four.nii.gz has the shape"):
        ReadImaged("image")({"image": str(four)})


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


def test_training_data_may_be_of_several_formats(tmp_path):
    for name in (
        "images/a.mha",
        "images/b.nrrd",
        "images/c.nii.gz",
        "labels/a.seg.nrrd",
        "labels/b.mhd",
        "labels/c.mha",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    split = {"train": ["a.nii.gz", "b.nii.gz"], "validation": ["c.nii.gz"]}
    assert names(training_pairs(tmp_path, split, "train")) == ["a", "b"]
    assert [pair["image"] for pair in training_pairs(tmp_path, {}, "test")] == [str(tmp_path / "images" / "c.nii.gz")]


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
