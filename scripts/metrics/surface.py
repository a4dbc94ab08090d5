"""Overlap and surface distances of two binary masks: MONAI's, with real spacing and a stated policy for empty masks.

- `dsc`, in %: 2·|A∩B| / (|A| + |B|); `compute_dice`.
- `nsd`, in %: area of either surface within the tolerance of the other, over the total area (Nikolov 2018);
  `compute_surface_dice(use_subvoxels=True)`, the setting that equals the authors' implementation.
- `hd95_mm`: the larger of the two directed 95th percentiles; `compute_hausdorff_distance(percentile=95)`.
- `assd_mm`: both directed distance sums over the number of both surfaces' voxels;
  `compute_average_surface_distance(symmetric=True)`.

Distances are in world mm. On a sheared grid, whose axes are not at right angles, they are found between the places
of its voxels in the world, and the areas of a surface's cells by its axes; MONAI's functions know orthogonal ones only.

MONAI's four functions find the surfaces and their distances three times over on the whole image. Here the masks are cut
to their joint bounding box and each kind of surface is found once; the tests hold the results against all four.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice
from monai.metrics.utils import (
    _get_neighbour_code_to_normals_table,
    get_code_to_measure_table,
    get_edge_surface_distance,
    get_surface_distance,
)
from monai.utils import MetricReduction
from scipy.spatial import cKDTree

from ..geometry.affine import check_affine, is_sheared
from ..geometry.affine import spacing_mm as spacing_of
from ..geometry.surface import boundary, crop_box
from .pairs import PairMetric

CROP_MARGIN = 2  # voxels kept around both masks; the surface of a mask reaches one voxel beyond it
SCORES = ("dsc", "nsd", "hd95_mm", "assd_mm")
OVERLAPS = ("dsc", "nsd")


@dataclass(frozen=True)
class EmptyPolicy:
    """What a pair of masks scores when one or both are empty.

    MONAI's own answer depends on the metric: a missed organ's HD95 is NaN there and aggregates to a perfect 0, its mean
    distance is infinite. Here one object decides all three cases for all metrics. A case in which exactly one of the
    masks is empty always counts as failed, whatever it scores.

    Attributes:
        prediction_empty: the organ was missed: "penalise" (0 % overlap, `distance_penalty_mm`) or "ignore" (NaN).
        truth_empty: an organ that is not there was found: "penalise" or "ignore".
        both_empty: rightly nothing found: "ignore" (NaN, not counted) or "perfect" (100 % and 0 mm).
        distance_penalty_mm: penalty of the distances; None takes the diagonal of the truth's whole image in mm.

    Raises:
        ValueError: a case has none of its named choices, or the penalty is negative or not finite.
    """

    prediction_empty: str = "penalise"
    truth_empty: str = "penalise"
    both_empty: str = "ignore"
    distance_penalty_mm: float | None = None

    def __post_init__(self) -> None:
        choices = {
            "prediction_empty": ("penalise", "ignore"),
            "truth_empty": ("penalise", "ignore"),
            "both_empty": ("ignore", "perfect"),
        }
        for case, allowed in choices.items():
            if getattr(self, case) not in allowed:
                raise ValueError(f"{case} must be one of {allowed}, not {getattr(self, case)!r}")
        penalty = self.distance_penalty_mm
        if penalty is not None and not (np.isfinite(penalty) and penalty >= 0):
            raise ValueError(f"distance_penalty_mm must be finite and not negative, not {penalty}")

    def scores(
        self, prediction_empty: bool, truth_empty: bool, diagonal_mm: float, keys: Sequence[str] = SCORES
    ) -> dict[str, float] | None:
        """Return the scores of a pair with an empty mask, None where neither mask is empty.

        Args:
            prediction_empty: whether the prediction has no voxel.
            truth_empty: whether the truth has no voxel.
            diagonal_mm: diagonal of the truth's whole image.
            keys: the scores to give; those that start with "dsc" or "nsd" are overlaps, the others distances.
        """
        if not prediction_empty and not truth_empty:
            return None
        if prediction_empty and truth_empty:
            choice, failed = self.both_empty, False
        else:
            choice, failed = (self.prediction_empty if prediction_empty else self.truth_empty), True
        penalty = diagonal_mm if self.distance_penalty_mm is None else float(self.distance_penalty_mm)
        overlap, distance = {
            "ignore": (float("nan"), float("nan")),
            "penalise": (0.0, penalty),
            "perfect": (100.0, 0.0),
        }[choice]
        result = {key: overlap if key.startswith(OVERLAPS) else distance for key in keys}
        return {**result, "failed": failed}


def score_masks(
    pred: Any,
    truth: Any,
    grid: Any,
    nsd_tolerance_mm: float,
    policy: EmptyPolicy | None = None,
    nsd_curve_mm: Sequence[float] = (),
) -> dict[str, float]:
    """Score a binary mask against the truth, both on one grid.

    Args:
        pred: predicted mask (X, Y, Z): bool, or numbers that are all 0 or 1; array or tensor.
        truth: true mask (X, Y, Z), likewise.
        grid: affine (4, 4) of the masks, voxel → world mm; or the spacing (3,) in mm of one that is not sheared.
        nsd_tolerance_mm: tolerance of `nsd`.
        policy: scores of empty masks; None is the default `EmptyPolicy`.
        nsd_curve_mm: further tolerances, each adding a key like "nsd_3mm".

    Returns:
        `dsc` and `nsd` in %, `hd95_mm` and `assd_mm` in mm, `failed` (exactly one mask is empty), and the curve's keys.

    Raises:
        ValueError: shapes differ or are not 3D, a mask is not binary, or spacing or a tolerance is not sensible.
    """
    pred_mask, truth_mask = binary_mask(pred, "pred"), binary_mask(truth, "truth")
    if pred_mask.shape != truth_mask.shape:
        raise ValueError(f"pred has shape {pred_mask.shape}, truth {truth_mask.shape}; they must share one grid")
    spacing, axes = spacing_and_axes(grid)
    tolerances = {"nsd": float(nsd_tolerance_mm)} | {f"nsd_{float(t):g}mm": float(t) for t in nsd_curve_mm}
    if any(not np.isfinite(t) or t < 0 for t in tolerances.values()):
        raise ValueError(f"tolerances must be finite and not negative, not {sorted(tolerances.values())} mm")

    keys = (*SCORES, *(key for key in tolerances if key != "nsd"))
    diagonal_mm = float(np.linalg.norm(np.multiply(truth_mask.shape, spacing)))
    empty = (policy or EmptyPolicy()).scores(not pred_mask.any(), not truth_mask.any(), diagonal_mm, keys)
    if empty is not None:
        return empty

    crop = _joint_box(pred_mask, truth_mask, CROP_MARGIN)
    pred_crop, truth_crop = (torch.from_numpy(np.ascontiguousarray(m[crop])) for m in (pred_mask, truth_mask))
    dice = compute_dice(pred_crop[None, None].float(), truth_crop[None, None].float(), include_background=True)
    if axes is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 warns of an argument that it passes itself
            _, distances, _ = get_edge_surface_distance(pred_crop, truth_crop, spacing=spacing, symmetric=True)
    else:
        edges = boundary(pred_mask[crop]), boundary(truth_mask[crop])
        there, back = (torch.from_numpy(_nearest_mm(*pair, axes)) for pair in (edges, edges[::-1]))
        distances = there, back
    table = _area_table(axes) if axes is not None else get_code_to_measure_table(spacing)[0].numpy()
    pred_crossed, pred_areas = _surface_cells(pred_mask[crop], table)
    truth_crossed, truth_areas = _surface_cells(truth_mask[crop], table)
    cells = [
        (areas, get_surface_distance(*pair, spacing=spacing) if axes is None else _nearest_mm(*pair, axes))
        for areas, pair in (
            (pred_areas, (pred_crossed, truth_crossed)),
            (truth_areas, (truth_crossed, pred_crossed)),
        )
    ]
    result = {
        "dsc": 100.0 * float(dice),
        "nsd": 0.0,
        "hd95_mm": max(float(torch.quantile(d, 0.95)) for d in distances),
        "assd_mm": float(torch.cat(tuple(distances)).mean()),
        "failed": False,
    }
    total_area = sum(float(areas.sum()) for areas, _ in cells)
    for key, tolerance in tolerances.items():
        near = sum(float(areas[distances_mm <= tolerance].sum()) for areas, distances_mm in cells)
        result[key] = 100.0 * near / total_area
    return result


class SurfaceScoreMetric(PairMetric):
    """One of the scores of `score_masks`, over batches; see `compute_surface_score`."""

    def __init__(
        self,
        score: str = "hd95_mm",
        nsd_tolerance_mm: float = 2.0,
        policy: EmptyPolicy | None = None,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        if score not in SCORES:
            raise ValueError(f"score must be one of {SCORES}, not {score!r}")
        self.key = score
        self.nsd_tolerance_mm = nsd_tolerance_mm
        self.policy = policy

    def score(self, pred: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> float:
        """Return the score of one pair of masks (X, Y, Z), % or mm."""
        scores = score_masks(pred, truth, affine, self.nsd_tolerance_mm, self.policy)
        return float(scores[self.key])


def compute_surface_score(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    score: str = "hd95_mm",
    nsd_tolerance_mm: float = 2.0,
    include_background: bool = False,
    spacing_mm: Sequence[float] | None = None,
    policy: EmptyPolicy | None = None,
) -> torch.Tensor:
    """Compute DSC, NSD, HD95 or ASSD of a batch, in % and mm.

    Args:
        y_pred: predicted masks (B, C, X, Y, Z), one-hot.
        y: true masks, likewise.
        score: "dsc", "nsd", "hd95_mm" or "assd_mm".
        nsd_tolerance_mm: tolerance of "nsd".
        include_background: whether channel 0 is compared too.
        spacing_mm: see `pairs.compute_pairs`.
        policy: scores of empty masks.

    Returns:
        (B, C) float32.

    Raises:
        ValueError: there is no such score, and see `pairs.compute_pairs` and `score_masks`.
    """
    metric = SurfaceScoreMetric(score, nsd_tolerance_mm, policy, include_background)
    return metric.score_batch(y_pred, y, spacing_mm)


def binary_mask(mask: Any, name: str = "mask") -> np.ndarray:
    """Return a mask as a bool array (X, Y, Z).

    Args:
        mask: bool, or numbers that are all 0 or 1; array or tensor (also a MetaTensor).
        name: what to call it in messages.

    Raises:
        ValueError: not 3D, or other values than 0 and 1, which MONAI would silently take for background.
    """
    array = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    if array.ndim != 3:
        raise ValueError(f"{name} must be a 3D mask (X, Y, Z), not of shape {array.shape}")
    if array.dtype == bool:
        return array
    binary = array == 1
    if not np.array_equal(array != 0, binary):
        raise ValueError(f"{name} is not binary: it holds {_some_values(array)}; pick one label or threshold it first")
    return binary


def check_spacing(spacing_mm: Any) -> list[float]:
    """Return a spacing as three Python floats, the one form that all of MONAI's surface metrics take.

    Raises:
        ValueError: not three positive, finite numbers.
    """
    array = spacing_mm.detach().cpu().numpy() if isinstance(spacing_mm, torch.Tensor) else np.asarray(spacing_mm)
    values = np.asarray(array, dtype=np.float64)
    if values.shape != (3,) or not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise ValueError(f"spacing_mm must be three positive numbers, not {values.tolist()}")
    return [float(v) for v in values]


def spacing_and_axes(grid: Any) -> tuple[list[float], np.ndarray | None]:
    """Return the spacing (3,) in mm of an affine (4, 4) or a spacing (3,), and the axes (3, 3) of a sheared affine.

    Raises:
        ValueError: neither an affine nor a spacing that can be used.
    """
    if tuple(np.shape(grid)) != (4, 4):
        return check_spacing(grid), None
    affine = check_affine(np.asarray(grid))
    return check_spacing(spacing_of(affine)), affine[:3, :3] if is_sheared(affine) else None


def _nearest_mm(of: np.ndarray, to: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return how far each voxel that is set in `of` lies from the nearest one of `to`, (N,) mm, by their places."""
    return cKDTree(np.argwhere(to) @ axes.T).query(np.argwhere(of) @ axes.T)[0]


def _area_table(axes: np.ndarray) -> np.ndarray:
    """Return code → area in mm² of the surface in a cell of 2 × 2 × 2 voxels, as MONAI's table, for any axes (3, 3).

    An area's normal goes into the world by the cofactors of the axes.
    """
    cofactors = np.linalg.det(axes) * np.linalg.inv(axes).T
    return np.linalg.norm(_get_neighbour_code_to_normals_table().numpy() @ cofactors.T, axis=-1).sum(-1)


def _surface_cells(mask: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the cells of 2 × 2 × 2 voxels that a mask's surface crosses, as MONAI's `get_mask_edges` does.

    MONAI reads a cell's code by a convolution, which takes most of the time of a large mask; here it is put together
    bit by bit. The areas by code are MONAI's.

    Args:
        mask: (X, Y, Z) bool.
        table: code → area in mm².

    Returns:
        (X + 1, Y + 1, Z + 1) bool, the cells, with nothing around the array; and the area of the surface in each,
        mm², in their order.
    """
    mask = np.pad(mask, 1)
    bits = get_code_to_measure_table((1, 1, 1))[1].numpy()
    codes = np.zeros([n - 1 for n in mask.shape], np.uint8)
    for corner, bit in np.ndenumerate(bits.reshape(2, 2, 2).astype(np.uint8)):
        window = tuple(slice(c, n - 1 + c) for c, n in zip(corner, mask.shape, strict=True))
        codes |= mask[window].view(np.uint8) * bit
    crossed = (codes != 0) & (codes != 255)
    return crossed, table[codes[crossed]]


def _joint_box(pred: np.ndarray, truth: np.ndarray, margin: int) -> tuple[slice, ...]:
    # Not the box of `pred | truth`: arrays of different memory order make that ten times slower on a whole scan.
    pairs = zip(crop_box(pred, margin), crop_box(truth, margin), strict=True)
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in pairs)


def _some_values(array: np.ndarray) -> str:
    values = np.unique(array)
    return ", ".join(f"{v:g}" for v in values[:6]) + (", …" if values.size > 6 else "")
