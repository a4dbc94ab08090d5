"""Runs of the refine job with the fake chain."""

import torch
from monai.transforms import Compose

from scripts.cases.checks import CheckMaskd, KeepInitiald
from scripts.cases.find import CaseDataset
from scripts.cases.sources import ReadMaskd
from scripts.cases.writer import CaseWriter
from scripts.report.run_report import RunReport
from scripts.run.runner import CaseEvaluator
from tests.helpers.fake_chain import KeepLargestd


def run_refine(
    masks, output, chain=None, html=False, overwrite=False, workers=1, part="", pack=None, cluster=None, **settings
):
    """Refine masks with a fake chain in this process."""
    steps = [KeepInitiald("pred"), CheckMaskd("pred", [1, 2]), *(chain or [KeepLargestd()])]
    evaluator = CaseEvaluator(
        "cpu",
        CaseDataset(masks, "pred", part=part),
        torch.nn.Identity(),
        Compose([ReadMaskd()]),
        Compose(steps),
        CaseWriter(output, "pred"),
        RunReport(output, "refine", {"organ": "blocks", **settings}, part),
        html=html,
        overwrite=overwrite,
        workers=workers,
        cluster=cluster,
        pack=pack,
    )
    evaluator.run()
    return evaluator
