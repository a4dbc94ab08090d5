"""The ceiling: how well a pack's priors describe true shapes that they have not seen.

Each structure is fitted to the surface of its *true* mask by the refinement's own steps (`LatentFinetune`), every point
trusted, and the mask is redrawn from the fit alone, without fusion or gate. What is lost here no refinement can bring
back where the fit overrules the mask.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..cases.find import case_name
from ..cases.io import label_array
from ..cases.sources import LabelSource, ReadMaskd
from ..evaluation.scoring import TrueShape
from ..geometry.affine import spacing_mm
from ..geometry.surface import sample_surface
from ..metrics.surface import EmptyPolicy, check_spacing, score_masks
from ..refine.finetune import LatentFinetune
from ..refine.reconstruct import ReconstructShape
from ..refine.settings import RefineSettings
from ..refine.shape_case import ShapeCase, TrustedSamples
from ..refine.transforms import PICCTd

logger = logging.getLogger(__name__)

CODES, WEIGHTS = "codes", "codes and weights"


class Ceiling:
    """Fits the priors of a pack to true shapes and scores what they make of them.

    Args:
        labels: how the label maps are read, and the organ pack.
        device: where the fields are evaluated.
        seed: of samples and fits.
    """

    def __init__(self, labels: LabelSource, device: str | torch.device = "cpu", seed: int = 0) -> None:
        self.pack = pack = labels.pack
        self.read = ReadMaskd("pred", labels)
        self.settings = RefineSettings.load(pack=pack)
        self.align = PICCTd("pred", pack.folder, device=device, seed=seed)
        self.fits = {
            CODES: LatentFinetune(replace(self.settings, weight_steps=0), device),
            WEIGHTS: LatentFinetune(self.settings, device),
        }
        self.reconstruct = ReconstructShape(replace(self.settings, fusion=False, gate=False))
        self.seed = seed

    def score(self, file: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Fit every structure of a label map.

        Returns:
            Rows of scores, one a structure and way of fitting, as `metrics.statistics.summarise` takes them; and
            structure → why it could not be fitted. A structure that the label map lacks has neither.

        Raises:
            CaseError: the label map cannot be used.
        """
        data = self.read({"pred": file})
        label_map, affine = label_array(data["pred"])
        rows: list[dict[str, Any]] = []
        failures = {}
        truths = self.pack.masks(label_map, affine)
        for case in self.align(data)["pred_shapes"]:
            truth = truths[case.name]
            if not truth.any():
                continue
            if case.failure:
                failures[case.name] = case.failure
                continue
            shape = TrueShape.of_mask(truth, affine)
            for method, fit in self.fits.items():
                head = {"case": case_name(file), "patient": case_name(file), "structure": case.name, "method": method}
                fitted = self._draw(fit, case, truth, affine)
                scores = score_masks(fitted, truth, check_spacing(spacing_mm(affine)), self.pack.nsd_tolerance_mm)
                rows.append(head | scores | shape.score(fitted, affine, EmptyPolicy()))
        return rows, failures

    def _draw(self, fit: LatentFinetune, case: ShapeCase, truth: np.ndarray, affine: np.ndarray) -> np.ndarray:
        assert case.surface is not None and case.transform is not None and case.prior is not None
        points, normals = sample_surface(case.surface, self.settings.samples, self.seed)
        sure = np.ones(len(points))
        case.fitted = fit(TrustedSamples(points, normals, sure, sure), case.transform, case.prior, self.seed)
        drawn = self.reconstruct(truth, affine, case)
        fitted = np.zeros_like(truth)
        fitted[drawn.box] = drawn.signed_mm < 0
        return fitted


def score_ceiling(
    files: Sequence[Path], labels: LabelSource, device: str | torch.device = "cpu", seed: int = 0
) -> tuple[list[dict[str, Any]], list[str]]:
    """Score the ceiling of a pack's priors over label maps (see `Ceiling.score`).

    Returns:
        Rows, and one line on every structure that could not be fitted.
    """
    ceiling = Ceiling(labels, device, seed)
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    for file in tqdm(files, desc="ceiling", unit="case", disable=None):
        scored, failed = ceiling.score(file)
        rows += scored
        failures += [f"{case_name(file)}, {name}: {reason}" for name, reason in failed.items()]
    for line in failures:
        logger.warning("not fitted: %s", line)
    return rows, failures
