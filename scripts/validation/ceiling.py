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
from ..cases.sources import LabelSource
from ..evaluation.scoring import TrueShape
from ..geometry.surface import sample_surface
from ..metrics.surface import EmptyPolicy, score_masks
from ..refine.chain import Refiner
from ..refine.finetune import LatentFinetune
from ..refine.reconstruct import ReconstructShape
from ..refine.stages import Aligned, Fitted, TrustedSamples, Unrefined

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
        self.labels = labels
        self.refiner = Refiner(labels.pack, device=device, seed=seed)
        own = self.refiner.settings.items()
        self.fits = {
            CODES: {name: LatentFinetune(replace(chosen, weight_steps=0), device) for name, chosen in own},
            WEIGHTS: {name: LatentFinetune(chosen, device) for name, chosen in own},
        }
        self.draw = {name: ReconstructShape(replace(chosen, fusion=False)) for name, chosen in own}

    def score(self, file: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Fit every structure of a label map.

        Returns:
            Rows of scores, one a structure and way of fitting, as `metrics.statistics.summarise` takes them; and
            structure → why it could not be fitted. A structure that the label map lacks has neither.

        Raises:
            CaseError: the label map cannot be used.
        """
        given = self.labels.read(file)
        rows: list[dict[str, Any]] = []
        failures = {}
        label_map = given.in_pack_values()
        for one in self.refiner.align(label_map, given.affine):
            if isinstance(one, Unrefined) or one.failure:
                if one.structure.mask(label_map, given.affine).any():
                    failures[one.name] = one.failure
                continue
            mask = one.mask.whole()
            shape = TrueShape.of_mask(mask, one.affine)
            for method, fits in self.fits.items():
                head = {"case": case_name(file), "patient": case_name(file), "structure": one.name, "method": method}
                fitted = self._draw(fits[one.name], one)
                scores = score_masks(fitted, mask, one.affine, self.labels.pack.nsd_tolerance_mm)
                rows.append(head | scores | shape.score(fitted, one.affine, EmptyPolicy()))
        return rows, failures

    def _draw(self, fit: LatentFinetune, aligned: Aligned) -> np.ndarray:
        """Return what the fit alone makes of a true mask, (X, Y, Z) bool."""
        points, normals = sample_surface(
            aligned.surface, self.refiner.steps[aligned.name].settings.samples, self.refiner.seed
        )
        sure = np.ones(len(points))
        samples = TrustedSamples(points, normals, sure, sure)
        found = fit(samples, aligned.transform, aligned.prior, self.refiner.seed)
        stage = aligned.then(Fitted, samples=samples, context=None, evidence=None, seen=None, drawn=None, fit=found)
        drawn = self.draw[aligned.name].measure(stage)
        fitted = np.zeros(aligned.mask.shape, bool)
        fitted[drawn.box] = drawn.fit_mm < 0
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
