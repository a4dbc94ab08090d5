"""The scores of one case: every structure of every method's label map against the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..cases.errors import CaseError
from ..cases.read import read_labels
from ..cases.sources import LabelSource
from ..geometry.affine import spacing_mm
from ..geometry.resample import WorldGrid, resample
from ..metrics.chamfer import chamfer_distance
from ..metrics.earth_movers import EMD_SAMPLES, earth_movers_distance
from ..metrics.point_to_surface import POINT_TO_SURFACE_SAMPLES, point_to_surface_mm
from ..metrics.shapes import SAMPLES, SampledShape, diagonal_of, score_shapes
from ..metrics.surface import EmptyPolicy, check_spacing, score_masks
from ..metrics.topology import count_components, count_holes, volume_difference_percent, volume_ml
from ..organ.pack import Structure, structure_masks
from .pairing import ScoredCase
from .postprocess import postprocess_labels

REFERENCE = "initial"
MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "cd": chamfer_distance,
    "emd": lambda points, others: earth_movers_distance(points[:EMD_SAMPLES], others[:EMD_SAMPLES]),
}


@dataclass(frozen=True)
class Scoring:
    """How cases are scored.

    Attributes:
        structures: what is scored; a side is found in every label map for itself.
        nsd_tolerance_mm: primary tolerance of NSD.
        nsd_curve_mm: further tolerances, for the CSV files.
        policy: scores of empty masks.
        postprocessing: baseline's name → smoothing in mm, computed from the reference's label maps.
        reference: the method that the others are compared with.
        shape_metrics: whether Chamfer, Earth Mover's and point-to-surface distance are computed too.
        predicted: how the labels of predictions are read; None for the pack's own values.
        true: how those of true label maps are read, likewise.
        resample_labels: bring true label maps to the predictions' grid, by the nearest voxel.
    """

    structures: Sequence[Structure]
    nsd_tolerance_mm: float = 2.0
    nsd_curve_mm: Sequence[float] = ()
    policy: EmptyPolicy = field(default_factory=EmptyPolicy)
    postprocessing: Mapping[str, float] = field(default_factory=dict)
    reference: str = REFERENCE
    shape_metrics: bool = False
    predicted: LabelSource | None = None
    true: LabelSource | None = None
    resample_labels: bool = False


@dataclass(frozen=True)
class TrueShape:
    """The truth of one structure as a sampled surface, against which the methods' masks are compared.

    Attributes:
        shape: its surface; None where the structure is missing.
        diagonal_mm: diagonal of its image.
        floors: noise floors, `cd_floor` and `emd_floor`: the surface against another draw of itself.
    """

    shape: SampledShape | None
    diagonal_mm: float
    floors: dict[str, float]

    @classmethod
    def of_mask(cls, mask: np.ndarray, affine: np.ndarray) -> TrueShape:
        """Mesh and sample a true mask (X, Y, Z)."""
        shape = SampledShape.of_mask(mask, affine, SAMPLES, seed=0)
        floors = dict.fromkeys(("cd_floor", "emd_floor"), float("nan"))
        if shape is not None:
            again = shape.resampled(seed=1)
            floors = {f"{key}_floor": score_shapes(again, shape, measure, 0.0) for key, measure in MEASURES.items()}
        return cls(shape, diagonal_of(mask, affine), floors)

    def score(self, pred: np.ndarray, affine: np.ndarray, policy: EmptyPolicy) -> dict[str, float]:
        """Return `cd`, `emd`, their floors and `point_to_surface_mm` of a predicted mask (X, Y, Z)."""
        shape = SampledShape.of_mask(pred, affine, SAMPLES, seed=1)
        scores = {
            key: score_shapes(shape, self.shape, measure, self.diagonal_mm, policy=policy)
            for key, measure in MEASURES.items()
        }
        few = [one and one.first(POINT_TO_SURFACE_SAMPLES) for one in (shape, self.shape)]
        apart = point_to_surface_mm(few[0], few[1], self.diagonal_mm, policy)
        return {**scores, **self.floors, "point_to_surface_mm": apart}


def score_case(case: ScoredCase, scoring: Scoring) -> list[dict[str, Any]]:
    """Score one case: a row a structure and method, the computed baselines right after the reference.

    Raises:
        CaseError: a file holds no label map.
    """
    truth, affine = _read_labels(case.label, scoring.true)
    if scoring.resample_labels:
        there = next((file for file in case.predictions.values() if file is not None), None)
        if there is not None:
            first, own_affine = _read_labels(there, scoring.predicted)
            truth, affine = resample(truth, affine, WorldGrid(own_affine, first.shape), order=0), own_affine
    spacing = check_spacing(spacing_mm(affine))
    truths = structure_masks(scoring.structures, truth, affine)
    references = {name: TrueShape.of_mask(mask, affine) for name, mask in truths.items() if scoring.shape_metrics}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    order = []
    for method, file in case.predictions.items():
        maps = {method: np.zeros_like(truth) if file is None else _read_labels(file, scoring.predicted)[0]}
        if method == scoring.reference:
            before = list(structure_masks(scoring.structures, maps[method], affine).values())
            for name, smoothing_mm in scoring.postprocessing.items():
                maps[name] = postprocess_labels(maps[method], before, spacing, smoothing_mm)
        for name, label_map in maps.items():
            order.append(name)
            for structure, pred in structure_masks(scoring.structures, label_map, affine).items():
                true = truths[structure]
                volumes = volume_ml(pred, affine), volume_ml(true, affine)
                row = {
                    "case": case.case,
                    "patient": case.patient,
                    "structure": structure,
                    "method": name,
                    **score_masks(pred, true, affine, scoring.nsd_tolerance_mm, scoring.policy, scoring.nsd_curve_mm),
                    "components": count_components(pred),
                    "holes": count_holes(pred),
                    "volume_ml": volumes[0],
                    "truth_volume_ml": volumes[1],
                    "volume_difference_percent": volume_difference_percent(*volumes),
                    "centroid_distance_mm": centroid_distance_mm(pred, true, affine),
                    **overlap_scores(pred, true),
                }
                if scoring.shape_metrics:
                    row |= references[structure].score(pred, affine, scoring.policy)
                rows[structure, name] = row
    return [rows[structure, name] for structure in truths for name in order]


def centroid_distance_mm(pred: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> float:
    """Return how far apart the centroids of two masks (X, Y, Z) bool lie, mm; NaN where one is empty."""
    if not pred.any() or not truth.any():
        return float("nan")
    one, other = (np.argwhere(mask).mean(axis=0) for mask in (pred, truth))
    return float(np.linalg.norm(affine[:3, :3] @ (one - other)))


def overlap_scores(pred: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return what a mask (X, Y, Z) bool has too much or too little of, in %.

    `precision` is the share of the predicted voxels that are true, `recall` the share of the true ones that are found,
    `volume_bias_percent` by how much the predicted volume exceeds the true one. Each is NaN where its whole is empty.
    """
    both, found, true = (np.count_nonzero(mask) for mask in (pred & truth, pred, truth))
    nan = float("nan")
    return {
        "precision": 100.0 * both / found if found else nan,
        "recall": 100.0 * both / true if true else nan,
        "volume_bias_percent": 100.0 * (found / true - 1.0) if true else nan,
    }


def try_to_score(case: ScoredCase, scoring: Scoring) -> list[dict[str, Any]] | str:
    """Score one case (see `score_case`); return why it cannot be scored where a file of it is no good."""
    try:
        return score_case(case, scoring)
    except (CaseError, OSError, ValueError) as error:
        return str(error)


def _read_labels(path: Path, source: LabelSource | None) -> tuple[np.ndarray, np.ndarray]:
    """Return a label map (X, Y, Z) with the pack's values, and its affine (4, 4)."""
    if source is None:
        return read_labels(path)
    given = source.read(path)
    return given.in_pack_values(), given.affine
