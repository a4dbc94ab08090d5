"""What a report says of a structure's quality, and the intervals of a user's own cases."""

import pytest

from scripts.cases.digest import hash_of
from scripts.quality.calibration import Calibration
from scripts.quality.verdict import OTHER_ORGANS, OTHER_PATIENTS, Judge
from tests.quality.test_predictor import figures, made


def quality(**own) -> dict:
    good, poor = figures(), figures(dice_with_fit=0.4)
    said = {"doubtful": False, "taken_in_mm": 0.0}
    return {"fit": {"radius_mm": 20.0}, "agreement": {"initial": poor, "refined": good}} | said | own


def test_both_masks_are_predicted_with_their_intervals():
    found = Judge("cube", [made()])(quality())
    for metric in ("predicted_dsc", "predicted_hd95_mm"):
        assert list(found[metric]) == ["initial", "refined"]
        assert all(low <= guess <= high for guess, low, high in found[metric].values())
    assert found["predicted_dsc"]["initial"] != found["predicted_dsc"]["refined"]
    assert found["interval"] == {"share": 0.9, "patients": 7, "made_of": OTHER_ORGANS}


def test_an_organ_of_the_training_has_narrower_intervals():
    stranger, known = Judge("cube", [made()])(quality()), Judge("ball", [made()])(quality())
    assert known["interval"]["made_of"] == OTHER_PATIENTS
    assert known["predicted_dsc"]["refined"][1] > stranger["predicted_dsc"]["refined"][1]


def test_a_calibration_takes_the_place_of_the_predictor_s_widths():
    own = Calibration({"dsc": 20.0, "hd95": 30.0}, 12, 24, "masks of my network")
    usual, found = Judge("cube", [made()])(quality()), Judge("cube", [made()], {"fit": own})(quality())
    assert found["predicted_dsc"]["refined"][0] == usual["predicted_dsc"]["refined"][0]
    assert found["predicted_dsc"]["refined"][1] < usual["predicted_dsc"]["refined"][1]
    assert found["interval"] == {"share": 0.9, "patients": 12, "made_of": "masks of my network"}


@pytest.mark.parametrize("said", [{"doubtful": True}, {"taken_in_mm": 0.9}])
def test_nothing_is_predicted_where_the_fit_cannot_be_right_or_the_mask_was_far_too_large(said):
    assert Judge("cube", [made()])(quality(**said)) == {}


def seen(**own) -> dict:
    """The same of a structure whose image was read."""
    known = quality(**own)
    for stage, dice in (("initial", 0.6), ("refined", 0.9)):
        known["agreement"][stage] |= {"head_dice": dice, "head_hd95": 0.1, "second_dice": None}
    return known


def test_an_image_tells_where_there_is_one():
    judge = Judge("cube", [made(told_by="image"), made()])
    found, alone = judge(seen()), judge(quality())
    assert found["predicted_from"] == "image" and alone["predicted_from"] == "fit"
    assert alone == Judge("cube", [made()])(quality())
    assert found["predicted_dsc"] != alone["predicted_dsc"]
    assert Judge("cube", [made()])(seen())["predicted_from"] == "fit"


def test_an_image_tells_of_masks_that_were_far_too_large_too_but_of_none_without_a_fit():
    judge = Judge("cube", [made(told_by="image"), made()])
    assert judge(seen(taken_in_mm=0.9))["predicted_from"] == "image" and judge(seen(doubtful=True)) == {}


NAMES = {"fit": "calibration.json", "image": "calibration_with_image.json"}


def read(folder, readers=()) -> Judge | None:
    files = {told_by: folder / f"{told_by}.safetensors" for told_by in NAMES}
    return Judge.of("cube", files, folder, NAMES, readers)


def test_there_is_no_judge_without_a_predictor(tmp_path):
    assert read(tmp_path) is None


@pytest.mark.parametrize("told_by", NAMES)
def test_one_predictor_alone_is_enough(tmp_path, told_by):
    made(told_by=told_by).save(tmp_path / f"{told_by}.safetensors")
    judge = read(tmp_path)
    assert judge is not None and [one.told_by for one in judge.predictors] == [told_by]
    assert judge(seen())["predicted_from"] == told_by


def test_an_image_tells_first_and_each_predictor_has_its_own_calibration(tmp_path):
    for told_by, name in NAMES.items():
        made(told_by=told_by).save(tmp_path / f"{told_by}.safetensors")
        known = hash_of((), [tmp_path / f"{told_by}.safetensors"])
        Calibration({"dsc": 20.0, "hd95": 30.0}, 12, 24, f"my {told_by}", predictor=known).save(tmp_path / name)
    judge = read(tmp_path)
    assert judge is not None
    assert judge(seen())["interval"]["made_of"] == "my image" and judge(quality())["interval"]["made_of"] == "my fit"
    (tmp_path / NAMES["image"]).unlink()
    judge = read(tmp_path)
    assert judge is not None
    assert judge(seen())["interval"]["made_of"] == OTHER_ORGANS and judge(quality())["interval"]["made_of"] == "my fit"


def test_a_calibration_of_another_predictor_is_left_aside(tmp_path, caplog):
    predictor, file = tmp_path / "fit.safetensors", tmp_path / "calibration.json"
    made().save(predictor)
    own = Calibration({"dsc": 1.5, "hd95": 1.2}, 9, 18, "masks", predictor=hash_of((), [predictor]))
    own.save(file)
    judge = read(tmp_path)
    assert judge is not None and judge.calibrations == {"fit": own} and not caplog.text
    predictor.unlink()
    made(seed=1).save(predictor)
    judge = read(tmp_path)
    assert judge is not None and judge.calibrations == {}
    assert f"{file} was made with another predictor" in caplog.text


def test_a_calibration_of_another_u_net_is_left_aside(tmp_path, caplog):
    made(told_by="image").save(tmp_path / "image.safetensors")
    readers = [tmp_path / "evidence.safetensors", tmp_path / "model.pt"]
    for file in readers:
        file.write_text("weights")
    own = Calibration({"dsc": 1.5, "hd95": 1.2}, 9, 18, "masks", readers=hash_of((), readers))
    own.save(tmp_path / NAMES["image"])
    judge = read(tmp_path, readers)
    assert judge is not None and judge.calibrations == {"image": own}
    readers[1].write_text("other weights")
    judge = read(tmp_path, readers)
    assert judge is not None and judge.calibrations == {} and "voxel head or U-Net" in caplog.text


@pytest.mark.parametrize("text", ["{", "[]", '{"widths": {"dsc": 1}, "patients": 9, "masks": 9, "made_of": ""}', "{}"])
def test_a_broken_calibration_is_named(tmp_path, text):
    file = tmp_path / "calibration.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"{file} is broken"):
        Calibration.load(file)
