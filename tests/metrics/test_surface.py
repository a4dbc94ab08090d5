"""Scores of binary masks: closed forms, MONAI's and DeepMind's figures, the empty policy, and the known traps."""

from __future__ import annotations

import math
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from scripts.geometry.surface import crop_box
from scripts.metrics.surface import EmptyPolicy, binary_mask, check_spacing, score_masks

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 1.3, 2.5), (3.0, 0.5, 1.0)]


def box_mask(shape, low, high) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def ball(shape, centre_mm, radius_mm, spacing_mm) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    return np.linalg.norm(index * np.asarray(spacing_mm) - centre_mm, axis=-1) <= radius_mm


def random_pair(seed: int, shape=(22, 19, 17)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2
    pred = ball(shape, centre + rng.normal(0, 1.5, 3), 6 + rng.normal(), (1, 1, 1))
    truth = ball(shape, centre, 6, (1, 1, 1))
    noise = rng.random(shape) < 0.02
    return pred ^ noise, truth


def monai_scores(pred, truth, spacing, tolerance) -> dict[str, float]:
    a, b = (torch.as_tensor(m, dtype=torch.float32)[None, None] for m in (pred, truth))
    kwargs = {"include_background": True, "spacing": [float(s) for s in spacing]}
    return {
        "dsc": 100 * compute_dice(a, b, include_background=True).item(),
        "nsd": 100 * compute_surface_dice(a, b, [tolerance], use_subvoxels=True, **kwargs).item(),
        "hd95_mm": compute_hausdorff_distance(a, b, percentile=95, **kwargs).item(),
        "assd_mm": compute_average_surface_distance(a, b, symmetric=True, **kwargs).item(),
        "failed": False,
    }


@pytest.mark.parametrize("spacing", SPACINGS)
def test_identical_masks_are_perfect(spacing):
    mask = ball((20, 20, 20), np.array(spacing) * 9.5, 5 * min(spacing) + 1, spacing)
    assert score_masks(mask, mask, spacing, 0.0) == {
        "dsc": 100,
        "nsd": 100,
        "hd95_mm": 0,
        "assd_mm": 0,
        "failed": False,
    }


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shifted_plates_have_the_closed_form(spacing, axis):
    """Two plates one voxel thick, k voxels apart: every distance is k·spacing, nothing overlaps."""
    shift, shape = 4, [14, 14, 14]
    low, high = [3, 3, 3], [11, 11, 11]
    low[axis], high[axis] = 4, 5
    pred = box_mask(shape, low, high)
    truth = np.roll(pred, shift, axis)
    distance = shift * spacing[axis]
    scores = score_masks(pred, truth, spacing, distance - 1e-3 - spacing[axis])
    assert scores["dsc"] == 0
    assert scores["hd95_mm"] == pytest.approx(distance, rel=1e-6)
    assert scores["assd_mm"] == pytest.approx(distance, rel=1e-6)
    assert score_masks(pred, truth, spacing, distance + 1e-3)["nsd"] == 100


@pytest.mark.parametrize("spacing", SPACINGS)
def test_box_shifted_along_x(spacing):
    """A box of n³ voxels moved by k < n: DSC is (n-k)/n, and the farthest surface is k·spacing away."""
    n, k = 8, 3
    truth = box_mask((20, 14, 14), (3, 3, 3), (3 + n, 3 + n, 3 + n))
    scores = score_masks(np.roll(truth, k, 0), truth, spacing, 10.0)
    assert scores["dsc"] == pytest.approx(100 * (n - k) / n, rel=1e-6)
    assert scores["nsd"] == 100
    assert scores["hd95_mm"] <= k * spacing[0] + 1e-6
    assert 0 < scores["assd_mm"] < k * spacing[0]


def test_nested_box_hausdorff_is_the_margin():
    """A box grown by two voxels on one face of a thin rod: 95 % of distances are small, DSC in closed form."""
    truth = box_mask((40, 9, 9), (3, 3, 3), (33, 6, 6))
    pred = box_mask((40, 9, 9), (3, 3, 3), (23, 6, 6))  # the rod's last ten slices are missing
    scores = score_masks(pred, truth, (2.0, 1.0, 1.0), 1.0)
    assert scores["dsc"] == pytest.approx(100 * 2 * 20 / 50, rel=1e-6)
    assert scores["hd95_mm"] == pytest.approx(_hd95(pred, truth, (2.0, 1.0, 1.0)), abs=1e-5)
    assert 14 < scores["hd95_mm"] <= 20


def test_scaled_spheres_on_an_anisotropic_grid():
    """Concentric spheres of radius 12 and 15 mm: DSC is 2r³/(r³+R³), all distances close to R - r."""
    spacing, shape = (0.8, 0.8, 1.2), (46, 46, 32)
    centre = (np.array(shape) - 1) / 2 * spacing
    small, large = ball(shape, centre, 12, spacing), ball(shape, centre, 15, spacing)
    scores = score_masks(small, large, spacing, 1.5)
    assert scores["dsc"] == pytest.approx(100 * 2 * 12**3 / (12**3 + 15**3), rel=0.01)
    assert scores["assd_mm"] == pytest.approx(3, abs=0.25)
    assert scores["hd95_mm"] == pytest.approx(3, abs=0.8)
    assert scores["nsd"] < 1
    assert score_masks(small, large, spacing, 4.5)["nsd"] == 100


def test_millimetres_scale_with_the_spacing():
    pred, truth = random_pair(0)
    one, three = score_masks(pred, truth, (1, 1, 2), 1.0), score_masks(pred, truth, (3, 3, 6), 3.0)
    assert three["hd95_mm"] == pytest.approx(3 * one["hd95_mm"], rel=1e-5)
    assert three["assd_mm"] == pytest.approx(3 * one["assd_mm"], rel=1e-5)
    assert three["nsd"] == pytest.approx(one["nsd"], rel=1e-5)
    assert three["dsc"] == one["dsc"]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", [1, 2])
def test_equals_monai(spacing, seed):
    pred, truth = random_pair(seed)
    assert score_masks(pred, truth, spacing, 1.5) == pytest.approx(monai_scores(pred, truth, spacing, 1.5), abs=2e-4)


@pytest.mark.parametrize("corner", [0, 10])
def test_cropping_changes_nothing(corner):
    """A small organ in a large image scores what it scores in a tight one, also where it touches the border."""
    pred, truth = (np.zeros((60, 50, 40), bool) for _ in range(2))
    pred[corner : corner + 9, corner : corner + 8, 5:12] = True
    truth[corner : corner + 7, corner + 1 : corner + 9, 6:14] = True
    large = score_masks(pred, truth, (0.7, 1.3, 2.5), 1.0, nsd_curve_mm=(2.0,))
    tight = tuple(slice(corner, corner + 10) for _ in range(2)) + (slice(5, 14),)
    assert large == score_masks(pred[tight], truth[tight], (0.7, 1.3, 2.5), 1.0, nsd_curve_mm=(2.0,))
    expected = monai_scores(pred, truth, (0.7, 1.3, 2.5), 1.0)
    assert {key: large[key] for key in expected} == pytest.approx(expected, abs=2e-4)


def _edge_points(mask, spacing) -> np.ndarray:
    padded = np.pad(mask, 1)
    return np.argwhere(padded & ~binary_erosion(padded)) * np.asarray(spacing)


def _hd95(pred, truth, spacing) -> float:
    a, b = _edge_points(pred, spacing), _edge_points(truth, spacing)
    return max(np.percentile(cKDTree(b).query(a)[0], 95), np.percentile(cKDTree(a).query(b)[0], 95))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_equals_brute_force_on_edge_voxels(spacing):
    pred, truth = random_pair(3)
    a, b = _edge_points(pred, spacing), _edge_points(truth, spacing)
    forth = np.linalg.norm(a[:, None] - b[None], axis=-1).min(1)
    back = np.linalg.norm(a[:, None] - b[None], axis=-1).min(0)
    scores = score_masks(pred, truth, spacing, 1.0)
    assert scores["hd95_mm"] == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)), abs=1e-4)
    assert scores["assd_mm"] == pytest.approx((forth.sum() + back.sum()) / (len(a) + len(b)), abs=1e-5)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0])
def test_nsd_equals_the_authors_implementation(spacing, tolerance):
    reference = pytest.importorskip("surface_distance", reason="surface-distance is not installed")
    pred, truth = random_pair(4)
    distances = reference.compute_surface_distances(truth, pred, spacing)
    expected = 100 * reference.compute_surface_dice_at_tolerance(distances, tolerance)
    scores = score_masks(pred, truth, spacing, 3.0, nsd_curve_mm=(tolerance,))
    assert scores[f"nsd_{tolerance:g}mm"] == pytest.approx(expected, abs=1e-4)
    assert scores["dsc"] == pytest.approx(100 * reference.compute_dice_coefficient(truth, pred), abs=1e-4)


def test_curve_grows_and_holds_the_primary_tolerance():
    pred, truth = random_pair(5)
    scores = score_masks(pred, truth, (1, 1, 2), 2.0, nsd_curve_mm=(1, 2, 3, 5))
    curve = [scores[f"nsd_{t}mm"] for t in (1, 2, 3, 5)]
    assert curve == sorted(curve)
    assert curve[1] == scores["nsd"]


EMPTY, BLOCK = np.zeros((10, 12, 14), bool), box_mask((10, 12, 14), (2, 2, 2), (6, 6, 6))
DIAGONAL = math.sqrt(10**2 + 24**2 + 42**2)


@pytest.mark.parametrize(("pred", "truth"), [(EMPTY, BLOCK), (BLOCK, EMPTY)])
def test_one_empty_mask_is_penalised_with_the_diagonal(pred, truth):
    scores = score_masks(pred, truth, (1, 2, 3), 1.0, nsd_curve_mm=(3,))
    assert scores == {
        "dsc": 0,
        "nsd": 0,
        "nsd_3mm": 0,
        "hd95_mm": pytest.approx(DIAGONAL),
        "assd_mm": pytest.approx(DIAGONAL),
        "failed": True,
    }
    fixed = score_masks(pred, truth, (1, 2, 3), 1.0, EmptyPolicy(distance_penalty_mm=50))
    assert (fixed["hd95_mm"], fixed["assd_mm"], fixed["dsc"]) == (50, 50, 0)


def test_both_empty_is_not_counted():
    scores = score_masks(EMPTY, EMPTY, (1, 2, 3), 1.0)
    assert not scores.pop("failed")
    assert all(math.isnan(v) for v in scores.values())
    perfect = score_masks(EMPTY, EMPTY, (1, 2, 3), 1.0, EmptyPolicy(both_empty="perfect"))
    assert perfect == {"dsc": 100, "nsd": 100, "hd95_mm": 0, "assd_mm": 0, "failed": False}


def test_ignored_failures_are_nan_but_still_failures():
    policy = EmptyPolicy(prediction_empty="ignore")
    missed = score_masks(EMPTY, BLOCK, (1, 1, 1), 1.0, policy)
    assert missed["failed"] and math.isnan(missed["hd95_mm"]) and math.isnan(missed["dsc"])
    assert score_masks(BLOCK, EMPTY, (1, 1, 1), 1.0, policy)["dsc"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"prediction_empty": "perfect"},
        {"truth_empty": "nan"},
        {"both_empty": "penalise"},
        {"distance_penalty_mm": -1},
        {"distance_penalty_mm": math.inf},
    ],
)
def test_policy_refuses_nonsense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EmptyPolicy(**wrong)


@pytest.mark.parametrize(
    "spacing",
    [
        (2, 1.0, 1),
        [2, 1, 1],
        np.array([2, 1, 1], np.float32),
        np.array([2, 1, 1], np.int16),
        torch.tensor([2.0, 1.0, 1.0]),
        torch.tensor([2, 1, 1]),
        (np.float32(2), np.float64(1), 1),
    ],
)
def test_any_kind_of_spacing(spacing):
    pred, truth = random_pair(6)
    assert score_masks(pred, truth, spacing, 1.0) == score_masks(pred, truth, (2.0, 1.0, 1.0), 1.0)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, -2), (1, math.nan, 1), 1.0])
def test_wrong_spacing_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing_mm"):
        check_spacing(spacing)


@pytest.mark.parametrize("kind", ["uint8", "int64", "float32", "tensor", "metatensor"])
def test_any_kind_of_binary_mask(kind):
    pred, truth = random_pair(7)
    if kind == "tensor":
        converted = torch.as_tensor(pred)
    elif kind == "metatensor":
        converted = MetaTensor(torch.as_tensor(pred).float())
    else:
        converted = pred.astype(kind)
    assert score_masks(converted, truth, (1, 1, 1), 1.0) == score_masks(pred, truth, (1, 1, 1), 1.0)


@pytest.mark.parametrize("value", [2, 255, 0.5, -1, math.nan])
def test_non_binary_masks_are_refused(value):
    """MONAI takes every other value than 1 for background: a mask of 255s would silently be empty."""
    with pytest.raises(ValueError, match="truth is not binary"):
        score_masks(BLOCK, BLOCK * value, (1, 1, 1), 1.0)


def test_other_wrong_input_is_refused():
    with pytest.raises(ValueError, match="must share one grid"):
        score_masks(BLOCK, BLOCK[:-1], (1, 1, 1), 1.0)
    with pytest.raises(ValueError, match="3D"):
        binary_mask(BLOCK[None])
    with pytest.raises(ValueError, match="tolerances"):
        score_masks(BLOCK, BLOCK, (1, 1, 1), -1.0)


def test_real_heart_is_fast_and_equals_monai(shared_data: Path):
    pred_file = shared_data / "thorax" / "predictions" / "unet" / "thorax_09_seed123.nii.gz"
    pred, truth = (
        np.asarray(nib.load(file).dataobj) == 2 for file in (pred_file, shared_data / "thorax/labels/thorax_09.nii.gz")
    )
    spacing = nib.load(pred_file).header.get_zooms()
    torch.set_num_threads(1)
    start = time.process_time()
    scores = score_masks(pred, truth, spacing, 2.0)
    assert time.process_time() - start < 3  # about 0.7 s on an idle core
    crop = crop_box(pred | truth, 5)
    expected = monai_scores(pred[crop], truth[crop], spacing, 2.0)
    assert scores == pytest.approx(expected, abs=2e-3)
    assert scores["dsc"] > 85
