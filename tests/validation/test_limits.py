"""The choice of the gate's limits: the rule on made-up figures, the command on the packaged prior's mean shape."""

import csv

import nibabel as nib
import numpy as np
import pytest

from scripts.geometry.resample import WorldGrid
from scripts.validation.limits import choose_limit, limits, limits_page
from tests.refine.test_chain import CENTRE, mean_shape


def rows_of(gains):
    """Rows from kind → limit → gains of masks."""
    return [
        {"structure": "egg", "kind": kind, "limit_mm": limit, "dsc_before": 90.0, "dsc_after": 90.0 + gain}
        for kind, by_limit in gains.items()
        for limit, masks in by_limit.items()
        for gain in masks
    ]


@pytest.mark.parametrize(
    ("clean", "missing", "chosen"),
    [
        ({2.0: [0, 0], 4.0: [0, 0]}, {2.0: [5, 5], 4.0: [4, 4]}, 2.0),  # more is gained with the smaller one
        ({2.0: [-1, 0], 4.0: [0, 0]}, {2.0: [5, 5], 4.0: [4, 4]}, 4.0),  # which harms a clean mask
        ({2.0: [0, 0], 4.0: [0, 0]}, {2.0: [9, -1], 4.0: [1, 1]}, 4.0),  # or a damaged one
        ({2.0: [-1, -1], 4.0: [-1, 0]}, {2.0: [9, 9], 4.0: [1, 1]}, 4.0),  # none is harmless: the least harm
        ({2.0: [0, 0], 4.0: [0, 0]}, {2.0: [4, 4], 4.0: [4, 4]}, 2.0),
        ({2.0: [-1] + [0] * 19, 4.0: [0] * 20}, {2.0: [5] * 20, 4.0: [4] * 20}, 2.0),  # one in twenty may lose
    ],
)
def test_the_limit_that_gains_most_and_harms_few_is_chosen(clean, missing, chosen):
    assert choose_limit(rows_of({"missing": missing, "clean": clean})) == chosen


def test_the_page_gives_the_line_for_the_pack():
    rows = rows_of({"missing": {2.0: [5.0, 6.0], 4.5: [4.0, 4.0]}, "clean": {2.0: [-1.0, 0.0], 4.5: [0.0, 0.0]}})
    page = limits_page("eggs", "python -m scripts limits", rows)
    assert "| 2 | +5.50 (+5.00), 0 of 2 | -0.50 (-1.00), 1 of 2 |" in page
    assert "| **4.5** | +4.00 (+4.00), 0 of 2 | +0.00 (+0.00), 0 of 2 |" in page
    assert "egg: refine: {excess_mm: 4.5, missing_mm: 4.5}" in page


def test_a_shape_that_the_prior_does_not_know_asks_for_a_higher_limit(tmp_path):
    """A mean shape with a stalk, which is no error: low limits cut it off."""
    labels, affine = mean_shape("plain")
    offset = WorldGrid(affine, labels.shape).points_world() - CENTRE
    stalk = (np.abs(offset[..., [0, 2]]).max(axis=-1) < 2.5) & (offset[..., 1] > 0) & (offset[..., 1] < 24)
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(np.where(stalk, 1, labels).astype(np.uint8), affine), tmp_path / "labels" / "a.nii.gz")
    out = tmp_path / "out"
    page = limits(
        "hippocampus", str(tmp_path / "labels"), str(out), split="", kinds="missing", limits_mm="1,30", device="cpu"
    )
    with open(out / "limits.csv", newline="") as file:
        found = {(row["kind"], float(row["limit_mm"])): row for row in csv.DictReader(file)}
    gains = {key: float(row["dsc_after"]) - float(row["dsc_before"]) for key, row in found.items()}
    assert set(found) == {(kind, limit) for kind in ("missing", "clean") for limit in (1.0, 30.0)}
    assert gains["clean", 1.0] < -0.5 and abs(gains["clean", 30.0]) < 0.5
    assert gains["missing", 1.0] > 1.0
    text = open(page, encoding="utf-8").read()
    assert "--kinds missing,clean --limits_mm 1,30" in text and "excess_mm: 30" in text


@pytest.mark.parametrize("given", ["two", "-1,3", 0.0])
def test_limits_must_be_lengths(tmp_path, given):
    with pytest.raises(ValueError, match="limits_mm must be"):
        limits("hippocampus", str(tmp_path), str(tmp_path / "out"), limits_mm=given)
