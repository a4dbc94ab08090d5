"""What a report says of a structure's quality: DSC and HD95 as predicted, and whether the prior knows such a shape."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
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
        predictors: of all organs; the last that can tell of a structure tells.
        organ: the pack's name.
        calibration: intervals of the user's own cases; None for the predictors'.
        calibrated: the kind of the predictor whose intervals these are.
    """

    predictors: Sequence[QualityPredictor]
    organ: str
    calibration: Calibration | None = None
    calibrated: str = "fit"

    @classmethod
    def of(cls, predictor_files: Mapping[str, Path], organ: str, calibration_file: Path) -> Judge | None:
        """Read the files; None where there is no predictor. A calibration of another predictor is left aside.

        Args:
            predictor_files: kind → file, the kind last that is to tell if it can.
            organ: the pack's name.
            calibration_file: of the pack.

        Raises:
            ValueError: one of them is broken.
        """
        files = {kind: file for kind, file in predictor_files.items() if file.is_file()}
        if not files:
            return None
        calibration = Calibration.load(calibration_file) if calibration_file.is_file() else None
        fits = [kind for kind, file in files.items() if calibration is not None and calibration.fits(file)]
        if calibration is not None and not fits:
            logger.warning(
                f"{calibration_file} was made with another predictor than this version's, and is left aside: run "
                "`python -m scripts calibrate` again"
            )
            calibration = None
        predictors = [QualityPredictor.load(file) for file in files.values()]
        return cls(predictors, organ, calibration, fits[0] if fits else "fit")

    def __call__(self, quality: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is predicted of a structure.

        Args:
            quality: figures of its refinement, see `refine.merge.describe`.

        Returns:
            `predicted_dsc` (%) and `predicted_hd95_mm`, each stage → [prediction, low, high]; `predicted_from`, "fit"
            or "image"; `interval`, which share of masks it holds, and how many patients, and whose masks, stand behind
            that. Nothing where the fit cannot be right, and of a mask that was taken inward without an image: the
            figures of its fit are too good for it.
        """
        told = quality["agreement"]
        able = [one for one in self.predictors if all(one.can_tell(told[stage]) for stage in STAGES)]
        if quality["doubtful"] or not able or (quality["taken_in_mm"] and able[-1].kind == "fit"):
            return {}
        predictor = able[-1]
        radius_mm = float(quality["fit"]["radius_mm"])
        known = self.calibration if predictor.kind == self.calibrated else None
        widths = known.widths if known else predictor.widths_for(self.organ)
        others = OTHER_PATIENTS if predictor.knows(self.organ) else OTHER_ORGANS
        found = {stage: predictor(told[stage], radius_mm, widths) for stage in STAGES}
        return {
            "predicted_dsc": {stage: list(one.dsc) for stage, one in found.items()},
            "predicted_hd95_mm": {stage: list(one.hd95_mm) for stage, one in found.items()},
            "predicted_from": predictor.kind,
            "interval": {
                "share": known.promise if known else PROMISE,
                "patients": known.patients if known else predictor.card.get("patients"),
                "made_of": known.made_of if known else others,
            },
        }
