"""What came of a case: the same figures for `report.json` and for hosts, which return them with the mask."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..cases.arrays import known_labels
from ..cases.labels import label_counts
from ..geometry.affine import voxel_volume_mm3
from .run_report import KEPT, REFINED, SEGMENTED, UNCHANGED, plain


@dataclass
class Outcome:
    """What came of a case.

    Attributes:
        status: "refined", "unchanged" (no voxel was), "segmented" (no refinement was asked for) or "kept" (no structure
            could be refined).
        reason: why the mask was kept; "" if it was not.
        warnings: structures that could not be refined while others were, and what a user should know of those refined.
        volumes_ml: label → [initial, refined] volume.
        changed_voxels: how many voxels have another value than before; None where no refinement was asked for.
        structures: one dictionary a structure: name, status, failure, seconds a stage, quality; and `was_missing`,
            true, where it was not in the mask, but was drawn.
    """

    status: str
    reason: str = ""
    warnings: list[str] = field(default_factory=list)
    volumes_ml: dict[str, list[float]] = field(default_factory=dict)
    changed_voxels: int | None = None
    structures: list[dict[str, Any]] = field(default_factory=list)


def outcome_of(data: Mapping[Hashable, Any]) -> Outcome:
    """Return what came of a case after the chain.

    Args:
        data: `pred`, and if it was refined `initial`, `pred_shapes`, and `pred_sides`, what to know of left and right;
            `pred_drawn`, a `Drawing`, where few slices were drawn; `pred_added`, the names of structures that
            were missing, and `pred_added_said`, `pred_fine_said` and `image_said`, what to know of these, of the fine
            mask and of the image that was segmented.
    """
    seen = [data["image_said"]] if data.get("image_said") else []
    if "pred_shapes" not in data:
        empty = not known_labels(data["pred"]).any()
        return Outcome(SEGMENTED, warnings=[*seen, *(["the mask is empty"] if empty else [])])
    shapes = data["pred_shapes"]
    failures = [f"{s.name}: {s.failure}" for s in shapes if s.failure]
    said = [f"{s.name}: {warning}" for s in shapes for warning in s.quality.get("warnings", [])]
    unrefined = bool(failures) and len(failures) == len(shapes)
    volumes_ml, changed_voxels = changes(data["initial"], data["pred"])
    drawn = data["pred_drawn"].warnings if "pred_drawn" in data else []
    before = [*seen, *drawn, *data.get("pred_sides", []), *data.get("pred_added_said", [])]
    fine = data.get("pred_fine_said", [])
    return Outcome(
        status=KEPT if unrefined else REFINED if changed_voxels else UNCHANGED,
        reason="; ".join(failures) if unrefined else "",
        warnings=[*before, *([] if unrefined else failures + said + fine)],
        volumes_ml=volumes_ml,
        changed_voxels=changed_voxels,
        structures=[
            {"name": s.name, "status": status_of(s), "failure": s.failure, "seconds": s.seconds, "quality": s.quality}
            | ({"was_missing": True} if s.name in data.get("pred_added", ()) else {})
            for s in shapes
        ],
    )


def status_of(shape: Any) -> str:
    """Return whether a structure, `Refined` or `Unrefined`, was "refined", "unchanged" or "kept"."""
    return KEPT if shape.failure else UNCHANGED if shape.quality.get("changed_voxels") == 0 else REFINED


def changes(initial: MetaTensor, refined: MetaTensor) -> tuple[dict[str, list[float]], int]:
    """Return each label's volume before and after in ml, and how many voxels changed their value."""
    before, after = known_labels(initial), known_labels(refined)
    voxel_ml = voxel_volume_mm3(initial.affine) / 1000.0
    counts = [label_counts(part) for part in (before, after)]
    labels = sorted({v for count in counts for v in count} - {0})
    volumes = {str(v): [float(count.get(v, 0)) * voxel_ml for count in counts] for v in labels}
    return volumes, int(np.count_nonzero(before != after))


class DescribeOutcomed(MapTransform):
    """Put what came of a case into `result`, as plain JSON values: MONAI Label returns that entry with the mask.

    Args:
        keys: the label map.
        labels: label value → name.
        settings: the request's options, repeated in the answer.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        labels: Mapping[int, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(keys)
        self.labels = {name: value for value, name in (labels or {}).items()}
        self.settings = dict(settings or {})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fill `result`: the settings, `labels` (name → value) and the fields of `Outcome`."""
        return {**data, "result": plain({**self.settings, "labels": self.labels, **asdict(outcome_of(data))})}


DescribeOutcomeD = DescribeOutcomeDict = DescribeOutcomed
