"""The choice of the gate's limits: the rule on made-up figures, the command on the packaged prior's mean shape."""

import csv
import re

import nibabel as nib
import numpy as np
import pytest
import yaml

from scripts.geometry.resample import WorldGrid
from scripts.organ.pack import Structure
from scripts.refine.chain import Refiner
from scripts.refine.settings import RefineSettings
from scripts.validation.limits import LimitSearch, choose_limits, gains, limits, limits_page
from scripts.validation.limits import _limits as around
from tests.helpers.mean_shape import CENTRE, mean_shape


def rows_of(gained):
    """Rows from kind → which limit → limit → gains of masks; removing islands alone gains 0.25."""
    rows = []
    for kind, by_which in gained.items():
        masks = len(by_which["excess_radii"][2.0])
        for which, by_limit in ({"": {np.inf: [0.0] * masks}} | by_which).items():
            for limit, own in by_limit.items():
                head = {"structure": "egg", "kind": kind, "which": which, "limit": limit, "dsc_before": 90.0}
                rows += [head | {"dsc_after": 90.25 + gain} for gain in own]
    return rows


NONE = {2.0: [0, 0], 3.0: [0, 0], 4.0: [0, 0]}


@pytest.mark.parametrize(
    ("clean_excess", "clean_missing", "mixed_excess", "mixed_missing", "chosen"),
    [
        (NONE, NONE, {2.0: [4, 4], 3.0: [3, 3], 4.0: [2, 2]}, {2.0: [1, 1], 3.0: [2, 2], 4.0: [1, 1]}, (2.0, 3.0)),
        # larger ones that gain hardly less are preferred, and the largest where nothing is gained
        (NONE, NONE, {2.0: [9, 9], 3.0: [8.7, 8.9], 4.0: [2, 2]}, NONE, (3.0, 4.0)),
        # what harms a clean mask is not chosen, nor the next larger one, for a margin
        ({2.0: [-1, 0], 3.0: [0, 0], 4.0: [0, 0]}, NONE, {2.0: [9, 9], 3.0: [5, 5], 4.0: [1, 1]}, NONE, (4.0, 4.0)),
        (NONE, {2.0: [0, -1], 3.0: [0, 0], 4.0: [0, 0]}, NONE, {2.0: [9, 9], 3.0: [5, 5], 4.0: [1, 1]}, (4.0, 4.0)),
        # nor what harms a damaged one
        (NONE, NONE, {2.0: [9, -1], 3.0: [5, 5], 4.0: [1, 1]}, NONE, (4.0, 4.0)),
        # a removal and an addition that cost 0.5 each harm together
        (
            {2.0: [-0.5, 0], 3.0: [-0.5, 0], 4.0: [-0.5, 0]},
            {2.0: [-0.5, 0], 3.0: [0, 0], 4.0: [0, 0]},
            {2.0: [3, 3], 3.0: [2, 2], 4.0: [1, 1]},
            {2.0: [9, 9], 3.0: [5, 5], 4.0: [1, 1]},
            (2.0, 4.0),
        ),
        # none is harmless: the least harm
        ({2.0: [-2, -2], 3.0: [-2, 0], 4.0: [-2, 0]}, NONE, {2.0: [9, 9], 3.0: [8, 8], 4.0: [1, 1]}, NONE, (4.0, 4.0)),
    ],
)
def test_the_limits_that_gain_most_and_harm_few_are_chosen(
    clean_excess, clean_missing, mixed_excess, mixed_missing, chosen
):
    clean = {"excess_radii": clean_excess, "missing_radii": clean_missing}
    mixed = {"excess_radii": mixed_excess, "missing_radii": mixed_missing}
    assert choose_limits(rows_of({"mixed": mixed, "clean": clean})) == chosen


def test_one_mask_in_twenty_may_lose():
    none = {2.0: [0] * 20, 3.0: [0] * 20, 4.0: [0] * 20}
    mixed = {"excess_radii": {2.0: [5] * 20, 3.0: [4] * 20, 4.0: [3] * 20}, "missing_radii": none}
    for harmed, chosen in ((1, 2.0), (2, 4.0)):
        harm = [-1] * harmed + [0] * (20 - harmed)
        clean = {"excess_radii": none | {2.0: harm}, "missing_radii": none}
        assert choose_limits(rows_of({"mixed": mixed, "clean": clean})) == (chosen, 4.0)


def test_the_page_gives_the_line_for_the_pack():
    missing = {"excess_radii": NONE, "missing_radii": {2.0: [5.0, 6.0], 3.0: [4.5, 5.0], 4.0: [4.0, 4.0]}}
    clean = {"excess_radii": {2.0: [-1.0, 0.0], 3.0: [0, 0], 4.0: [0, 0]}, "missing_radii": NONE}
    page = limits_page("eggs", "python -m scripts limits", rows_of({"missing": missing, "clean": clean}))
    assert "| islands only | +0.25 (+0.25), 0 of 2 | +0.25 (+0.25), 0 of 2 |" in page
    assert "| excess_radii 2 | +0.25 (+0.25), 0 of 2 | -0.25 (-0.75), 1 of 2 |" in page
    assert "| missing_radii 2 | +5.75 (+5.25), 0 of 2 | +0.25 (+0.25), 0 of 2 |" in page
    assert "| **excess_radii 4, missing_radii 2** | +5.75 (+5.25), 0 of 2 | +0.25 (+0.25), 0 of 2 |" in page
    assert "egg: refine: {excess_radii: 4, missing_radii: 2}" in page


def test_a_shape_that_the_prior_does_not_know_asks_for_a_higher_limit(tmp_path):
    """A mean shape with a stalk, which is no error: low limits cut it off."""
    labels, affine = mean_shape("plain")
    offset = WorldGrid(affine, labels.shape).points_world() - CENTRE
    stalk = (np.abs(offset[..., [0, 2]]).max(axis=-1) < 2.5) & (offset[..., 1] > 0) & (offset[..., 1] < 24)
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(np.where(stalk, 1, labels).astype(np.uint8), affine), tmp_path / "labels" / "a.nii.gz")
    out = tmp_path / "out"
    page = limits(
        "hippocampus",
        str(tmp_path / "labels"),
        str(out),
        split="",
        kinds="missing",
        limits_radii="0.07,1.8,2.1",
        device="cpu",
    )
    with open(out / "limits.csv", newline="") as file:
        rows = [
            row | {key: float(row[key]) for key in ("limit", "dsc_before", "dsc_after")} for row in csv.DictReader(file)
        ]
    assert len(rows) == 2 * (1 + 2 * 3)
    assert gains(rows, "clean", 0.07, None)[0] < -0.5
    assert abs(gains(rows, "clean", 2.1, 2.1)[0]) < 0.5
    assert gains(rows, "missing", None, 0.07)[0] > 1.0
    text = open(page, encoding="utf-8").read()
    assert "--kinds missing,clean --limits_radii 0.07,1.8,2.1" in text
    (line,) = re.findall(r"\n```\nhippocampus: refine: (.+)\n```", text)
    found = RefineSettings.load(structure=Structure("hippocampus", (1,), refine=yaml.safe_load(line)))
    assert (found.excess_radii, found.missing_radii) == (2.1, 0.07)


def test_what_cannot_be_fitted_counts_as_unchanged():
    labels, affine = mean_shape("plain")
    speck = np.zeros_like(labels)
    speck[4, 4, 4] = 1
    rows = LimitSearch(Refiner("hippocampus"), [1.0, 2.0]).score(speck, labels, affine)
    assert len(rows) == 5 and {row["dsc_before"] for row in rows} == {row["dsc_after"] for row in rows} == {0.0}


def test_limits_that_are_tried_lie_around_the_packs():
    assert around("", [4.0, 4.0]) == [2.56, 3.2, 4.0, 5.0, 6.25]
    wide = around("", [4.0, 10.0])
    assert wide[:2] == [2.56, 3.2] and wide[-1] >= 10.0 * 1.25**2


@pytest.mark.parametrize("given", ["two", "-1,3", 0.0])
def test_limits_must_be_lengths(tmp_path, given):
    with pytest.raises(ValueError, match="limits_radii must be"):
        limits("hippocampus", str(tmp_path), str(tmp_path / "out"), limits_radii=given)
