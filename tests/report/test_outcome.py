"""What came of a case, as the report and hosts are told it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.report.outcome import DescribeOutcomed, outcome_of
from tests.helpers.volumes import OBLIQUE, blocks


def shape(name, failure="", **quality):
    quality = {"share": np.float32(np.nan), **quality}
    return SimpleNamespace(name=name, failure=failure, seconds={"fit": 0.5}, quality=quality)


def case(*shapes):
    before = MetaTensor(torch.from_numpy(blocks()[None]), affine=torch.from_numpy(OBLIQUE))
    after = before.clone()
    after[0, 0, 0, 0] = after[0, 11, 9, 7] = 0
    return {"initial": before, "pred": after, "pred_shapes": list(shapes)}


def test_volumes_and_changes_are_those_of_the_masks():
    found = outcome_of(case(shape("a"), shape("b", "no fit")))
    voxel_ml = 0.7 * 0.9 * 2.0 / 1000
    counts = {1: np.count_nonzero(blocks() == 1), 2: np.count_nonzero(blocks() == 2)}
    assert (found.status, found.reason, found.warnings) == ("refined", "", ["b: no fit"])
    assert found.changed_voxels == 2
    for label, count in counts.items():
        assert found.volumes_ml[str(label)] == pytest.approx([count * voxel_ml, (count - 1) * voxel_ml])


def test_mask_is_kept_where_every_structure_failed():
    found = outcome_of(case(shape("a", "too small"), shape("b", "no fit")))
    assert (found.status, found.reason, found.warnings) == ("kept", "a: too small; b: no fit", [])


def test_what_was_not_changed_is_unchanged():
    data = case(shape("a", changed_voxels=0), shape("b", "no fit", changed_voxels=0), shape("c", changed_voxels=2))
    found = outcome_of(data)
    assert found.status == "refined" and [s["status"] for s in found.structures] == ["unchanged", "kept", "refined"]
    same = outcome_of({**data, "pred": data["initial"]})
    assert (same.status, same.reason, same.changed_voxels) == ("unchanged", "", 0)


def test_warnings_of_refined_structures_are_named_with_them():
    doubtful = shape("b")
    doubtful.quality["warnings"] = ["does not look like b"]
    found = outcome_of(case(shape("a"), doubtful, shape("c", "no fit")))
    assert found.warnings == ["c: no fit", "b: does not look like b"]


def test_what_was_missing_is_told():
    said = ["b: missing from the mask; drawn from the image (1 ml)", "c: missing from the mask, and not added: no file"]
    found = outcome_of({**case(shape("a"), shape("b")), "pred_added": ["b"], "pred_added_said": said})
    assert found.warnings == said
    assert [one.get("was_missing") for one in found.structures] == [None, True]


def test_network_alone_has_segmented():
    data = {"pred": case()["pred"]}
    assert (outcome_of(data).status, outcome_of(data).warnings) == ("segmented", [])
    assert outcome_of({"pred": torch.zeros_like(data["pred"])}).warnings == ["the mask is empty"]


def test_result_is_plain_json_beside_the_data():
    data = case(shape("a"))
    done = DescribeOutcomed("pred", {1: "anterior", 2: "posterior"}, {"preset": "linear"})(data)
    assert done["pred"] is data["pred"]
    result = json.loads(json.dumps(done["result"], allow_nan=False))
    assert (result["preset"], result["status"]) == ("linear", "refined")
    assert result["labels"] == {"anterior": 1, "posterior": 2}
    assert result["structures"] == [
        {"name": "a", "status": "refined", "failure": "", "seconds": {"fit": 0.5}, "quality": {"share": None}},
    ]
