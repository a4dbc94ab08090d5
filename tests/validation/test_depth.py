"""The one depth by which a network draws all masks too large, from cases with a truth."""

import nibabel as nib
import numpy as np
import pytest

from scripts.geometry.boxed import BoxedMask
from scripts.geometry.surface import mask_signed_distance
from scripts.refine.inward import moved_inward
from scripts.validation.depth import DEPTHS_MM, depth, dice_by_depth
from tests.helpers.two_packs import write_pack

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SPACING = np.array([1.0, 1.0, 2.0])


def ball(radius_mm: float, x_mm: float = 30.0) -> np.ndarray:
    places = np.stack(np.meshgrid(*(np.arange(n) for n in (61, 61, 31)), indexing="ij"), axis=-1) * SPACING
    return np.linalg.norm(places - [x_mm, 30.0, 30.0], axis=-1) < radius_mm


def written(folder, radii, by_mm, patients=4):
    """Cases of one organ whose masks lie further out by `by_mm`."""
    for name in ("labels", "masks"):
        (folder / name).mkdir(parents=True)
    for n, radius in zip(range(patients), radii, strict=True):
        truth = ball(radius)
        mask = mask_signed_distance(truth, SPACING) < by_mm
        for name, values in (("labels", truth), ("masks", mask)):
            nib.save(nib.Nifti1Image(values.astype(np.uint8), AFFINE), folder / name / f"p{n}.nii.gz")
    return str(folder / "labels"), str(folder / "masks")


@pytest.mark.parametrize("by_mm", [2.5, -2.5])
def test_the_depth_of_a_network_is_found_and_named(by_mm, tmp_path):
    pack = str(write_pack(tmp_path / "peas", {1: "pea"}))
    text = depth(pack, *written(tmp_path, (11.0, 13.0, 15.0, 17.0), by_mm))
    *_, row, _, advice = text.splitlines()
    best, given, there, apart = (float(cell) for cell in row.split("|")[3:7])
    assert row.startswith("| all structures | 4 |") and best == pytest.approx(by_mm, abs=0.5)
    assert given < 85.0 < 97.0 < apart <= there
    assert advice == f"for other masks of this network: --inward_mm pea={best:g}"


def test_right_masks_need_none(tmp_path):
    pack = str(write_pack(tmp_path / "peas", {1: "pea"}))
    text = depth(pack, *written(tmp_path, (11.0, 13.0, 15.0), 0.0, patients=3))
    assert text.endswith("no depth is worth it: leave --inward_mm out")
    assert "| pea | 3 | 0 | 100.0 | 100.0 | 100.0 |" in text


def test_two_patients_are_too_few(tmp_path):
    pack = str(write_pack(tmp_path / "peas", {1: "pea"}))
    with pytest.raises(ValueError, match="2 patients: to tell one depth for all takes at least 3"):
        depth(pack, *written(tmp_path, (11.0, 13.0), 1.0, patients=2))


@pytest.mark.parametrize("inward_mm", [-3.0, -0.5, 0.75, 4.0])
def test_the_scores_are_those_of_masks_that_a_run_moves(inward_mm):
    truth, mask = ball(14.0), ball(15.0, x_mm=32.0)
    labels = np.where(mask, 1, 0)
    labels[:22][labels[:22] == 0] = 2
    scores = dice_by_depth(BoxedMask.of(mask), truth, AFFINE, labels)
    moved = moved_inward(BoxedMask.of(mask), AFFINE, inward_mm, labels).whole()
    expected = 200.0 * (moved & truth).sum() / (moved.sum() + truth.sum())
    assert scores[DEPTHS_MM == inward_mm][0] == pytest.approx(expected, abs=0.5)
    assert scores[DEPTHS_MM == 0][0] == pytest.approx(200.0 * (mask & truth).sum() / (mask.sum() + truth.sum()))
