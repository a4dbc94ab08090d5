"""What a report says of a structure's quality: DSC and HD95 as predicted, and whether the prior knows such a shape."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .calibration import Calibration
from .predictor import PROMISE, QualityPredictor

logger = logging.getLogger(__name__)

STAGES = ("initial", "refined")
OTHER_ORGANS, OTHER_PATIENTS = "masks of other organs", "masks of other patients, this organ among others"


@dataclass(frozen=True)
class Judge:
    """Predicts the quality of a pack's structures.

    Attributes:
        predictor: of all organs.
        organ: the pack's name.
        calibration: intervals of the user's own cases; None for the predictor's.
    """

    predictor: QualityPredictor
    organ: str
    calibration: Calibration | None = None

    @classmethod
    def of(cls, predictor_file: Path, organ: str, calibration_file: Path) -> Judge | None:
        """Read the files; None where there is no predictor. A calibration of another predictor is left aside.

        Raises:
            ValueError: one of them is broken.
        """
        if not predictor_file.is_file():
            return None
        calibration = Calibration.load(calibration_file) if calibration_file.is_file() else None
        if calibration is not None and not calibration.fits(predictor_file):
            logger.warning(
                f"{calibration_file} was made with another predictor than this version's, and is left aside: run "
                "`python -m scripts calibrate` again"
            )
            calibration = None
        return cls(QualityPredictor.load(predictor_file), organ, calibration)

    def __call__(self, quality: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is predicted of a structure.

        Args:
            quality: figures of its refinement, see `refine.merge.describe`.

        Returns:
            `predicted_dsc` (%) and `predicted_hd95_mm`, each stage → [prediction, low, high]; `interval`, which
            share of masks it holds, and how many patients, and whose masks, stand behind that. Nothing
            where the fit cannot be right, and of a mask that was taken inward: its figures are too good for it.
        """
        if quality["doubtful"] or quality["taken_in_mm"]:
            return {}
        radius_mm = float(quality["fit"]["radius_mm"])
        known = self.calibration
        widths = known.widths if known else self.predictor.widths_for(self.organ)
        others = OTHER_PATIENTS if self.predictor.knows(self.organ) else OTHER_ORGANS
        found = {stage: self.predictor(quality["agreement"][stage], radius_mm, widths) for stage in STAGES}
        return {
            "predicted_dsc": {stage: list(one.dsc) for stage, one in found.items()},
            "predicted_hd95_mm": {stage: list(one.hd95_mm) for stage, one in found.items()},
            "interval": {
                "share": known.promise if known else PROMISE,
                "patients": known.patients if known else self.predictor.card.get("patients"),
                "made_of": known.made_of if known else others,
            },
        }
