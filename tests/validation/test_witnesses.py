"""The command `witnesses`: its figures on balls, and the whole on the packaged hippocampus prior's own mean shape."""

import csv
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import trimesh

from scripts.geometry.resample import WorldGrid
from scripts.validation.witnesses import coverage, page, witnesses
from tests.helpers.mean_shape import mean_shape
from tests.helpers.volumes import AFFINES


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize(("off_mm", "shares"), [(0.0, (100, 100)), (3.0, (0, 100)), (-6.0, (0, 0))])
def test_coverage_is_the_share_of_the_true_surface_that_the_deviations_hold(affine, off_mm, shares):
    """Two balls with the same middle, and a deviation of 2 mm."""
    grid = WorldGrid(affine, tuple(np.ceil(30.0 / np.linalg.norm(affine[:3, :3], axis=0)).astype(int)))
    points = grid.points_world()
    middle = points.reshape(-1, 3).mean(0)
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=12.0 + off_mm).apply_translation(middle)
    refined = SimpleNamespace(mesh=mesh, affine=affine, uncertainty_mm=np.full(len(mesh.vertices), 2.0))
    found = coverage(refined, np.linalg.norm(points - middle, axis=-1) < 12.0)
    assert found["uncertainty_median_mm"] == 2.0
    assert (found["within_one_percent"], found["within_two_percent"]) == pytest.approx(shares, abs=3)


def test_the_command_writes_a_row_a_mask_and_a_page_of_means(tmp_path):
    (tmp_path / "labels").mkdir()
    label_map, affine = mean_shape("oblique")
    nib.save(nib.Nifti1Image(label_map, affine), tmp_path / "labels" / "a.nii.gz")
    options = {"split": "", "kinds": "missing,clean", "device": "cpu"}
    path = witnesses("hippocampus", str(tmp_path / "labels"), str(tmp_path / "out"), **options)
    rows = list(csv.DictReader((tmp_path / "out" / "witnesses.csv").open()))
    assert [(row["case"], row["kind"], row["structure"]) for row in rows] == [
        ("a", "missing", "hippocampus"),
        ("a", "clean", "hippocampus"),
    ]
    assert float(rows[1]["within_one_percent"]) > 95  # the prior's own shape
    assert float(rows[0]["dsc_result"]) > float(rows[0]["dsc_initial"]) + 3 and float(rows[0]["gate_tuned"]) > 95
    text = open(path).read()
    assert "python -m scripts witnesses --organ hippocampus" in text
    assert text.count("| clean | 1 |") == text.count("| all | 2 |") == 3


def test_a_fit_worse_than_its_start_is_counted_and_named():
    scores = {"dsc_initial": 80.0, "dsc_linear": 90.0, "dsc_codes": 88.5, "dsc_tuned": 93.0, "dsc_result": 81.0}
    scores |= {f"gate_{name}": 85.0 for name in ("linear", "codes", "tuned", "majority")} | coverage_of_none()
    rows = [
        {"case": "a", "kind": "mixed", "structure": "egg", **scores},
        {"case": "b", "kind": "mixed", "structure": "egg", **scores, "dsc_tuned": 87.0, "gate_tuned": 75.0},
    ]
    text = page("eggs", "python -m scripts witnesses", rows)
    assert "| all | 2 | 80.0 | 90.0 | 88.5 | 90.0 | 81.0 | 0 | 1 |" in text
    assert "- b, egg, mixed: 90.0 → 87.0" in text and "- a, egg" not in text
    assert "| mixed | 2 | +1.00 | +5.00 | +5.00 | +0.00 | +5.00 |" in text
    assert "| mixed | 2 | – | – | – | – |" in text  # no uncertainty: the fits were doubtful


def coverage_of_none() -> dict[str, float]:
    return coverage(SimpleNamespace(mesh=None, uncertainty_mm=None), np.zeros((2, 2, 2), bool))
