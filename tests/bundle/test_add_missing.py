"""A structure that a mask lacks, drawn from the image by `refine --add_missing true`."""

import json

import numpy as np
import pytest

from scripts.cases.read import read_labels
from tests.bundle.test_refine_job import refine
from tests.helpers.mean_shape import dice
from tests.helpers.volumes import save

MISSING = 6  # caudate_left
PERSON = "brain_1110"  # of the test split: neither prior, head nor U-Net has seen the person


@pytest.mark.slow
def test_a_caudate_comes_back_and_the_others_stay(bundle_root, shared_data, tmp_path):
    data = shared_data / "brain"
    if not (data / "images" / f"{PERSON}.nii.gz").is_file():
        pytest.skip(f"no image of {PERSON} in {data}")
    truth, affine = read_labels(data / "labels" / f"{PERSON}.nii.gz")
    truth = np.where(truth <= 14, truth, 0).astype(np.uint8)  # what the pack knows
    lacking = np.where(truth == MISSING, 0, truth)
    (tmp_path / "masks").mkdir()
    save(tmp_path / "masks" / f"{PERSON}.nii.gz", lacking, affine)
    options = {"organ": "brain", "image_dir": str(data / "images"), "add_missing": True}
    refine(bundle_root, tmp_path / "masks", tmp_path / "out", **options)
    refined, _ = read_labels(tmp_path / "out" / PERSON / f"{PERSON}_refined.nii.gz")
    assert dice(refined == MISSING, truth == MISSING) > 0.8
    others = [label for label in range(1, 15) if label != MISSING]
    assert min(dice(refined == label, truth == label) for label in others) > 0.9
    (case,) = json.loads((tmp_path / "out" / "report.json").read_text())["cases"]
    assert any(
        said.startswith("caudate_left: missing from the mask; drawn from the image (") for said in case["warnings"]
    )
    assert case["volumes_ml"][str(MISSING)][0] == 0
    assert [one["name"] for one in case["structures"] if one.get("was_missing")] == ["caudate_left"]
    assert (tmp_path / "out" / "report.html").is_file()
