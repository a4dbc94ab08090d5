"""What a report says of a structure's quality: DSC and HD95 as predicted, and whether the prior knows such a shape."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .calibration import Calibration
from .features import FEATURES_OF
from .predictor import PROMISE, QualityPredictor

logger = logging.getLogger(__name__)

STAGES = ("initial", "refined")
OTHER_ORGANS, OTHER_PATIENTS = "masks of other organs", "masks of other patients, this organ among others"


@dataclass(frozen=True)
class Judge:
    """Predicts the quality of a pack's structures.

    Attributes:
        organ: the pack's name.
        predictors: of all organs; the first that can tell of a structure tells.
        calibrations: what a predictor is told by → intervals of the user's own cases, in place of the predictor's.
    """

    organ: str
    predictors: Sequence[QualityPredictor]
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        organ: str,
        predictor_files: Mapping[str, Path],
        folder: Path,
        calibration_names: Mapping[str, str],
        reader_files: Sequence[Path] = (),
    ) -> Judge | None:
        """Read the files that there are; None where there is no predictor.

        A calibration of another predictor or of other readers is left aside.

        Args:
            organ: the pack's name.
            predictor_files: what a predictor is told by → its file.
            folder: of the pack.
            calibration_names: what a predictor is told by → name of a calibration's file in the folder.
            reader_files: of what reads the pack's images.

        Raises:
            ValueError: one of them is broken.
        """
        predictors, calibrations = [], {}
        for told_by in FEATURES_OF:
            file, own = predictor_files[told_by], folder / calibration_names[told_by]
            if not file.is_file():
                continue
            predictors.append(QualityPredictor.load(file))
            calibration = Calibration.load(own) if own.is_file() else None
            if calibration is not None and calibration.fits(file, reader_files):
                calibrations[told_by] = calibration
            elif calibration is not None:
                logger.warning(
                    f"{own} was made with another predictor, voxel head or U-Net than there is now, and is left aside: "
                    "run `python -m scripts calibrate` again"
                )
        return cls(organ, predictors, calibrations) if predictors else None

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
        able = (one for one in self.predictors if all(one.can_tell(told[stage]) for stage in STAGES))
        predictor = next(able, None)
        if predictor is None or quality["doubtful"] or (quality["taken_in_mm"] and predictor.told_by == "fit"):
            return {}
        radius_mm = float(quality["fit"]["radius_mm"])
        known = self.calibrations.get(predictor.told_by)
        widths = known.widths if known else predictor.widths_for(self.organ)
        others = OTHER_PATIENTS if predictor.knows(self.organ) else OTHER_ORGANS
        found = {stage: predictor(told[stage], radius_mm, widths, self.organ) for stage in STAGES}
        return {
            "predicted_dsc": {stage: list(one.dsc) for stage, one in found.items()},
            "predicted_hd95_mm": {stage: list(one.hd95_mm) for stage, one in found.items()},
            "predicted_from": predictor.told_by,
            "interval": {
                "share": known.promise if known else PROMISE,
                "patients": known.patients if known else predictor.card.get("patients"),
                "made_of": known.made_of if known else others,
            },
        }
