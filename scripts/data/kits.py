"""KiTS: `case_00000/imaging.nii.gz` and `segmentation.nii.gz`; 1 kidney, 2 tumour, and from 2021 on 3 cyst."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .case import Parts, RawCase, Source, require_cases


def list_cases(folder: Path) -> list[RawCase]:
    """List the cases with a segmentation; an image that has not been downloaded is left out.

    Raises:
        ValueError: there are none.
    """
    labels = sorted(folder.glob("case_*/segmentation.nii.gz"))
    cases = [RawCase(label.parent.name, _reader(label)) for label in labels]
    return require_cases(cases, folder, "case_*/segmentation.nii.gz")


def _reader(label: Path) -> Callable[[], Parts]:
    image = label.with_name("imaging.nii.gz")
    return lambda: Parts(label, image) if image.is_file() else Parts(label, note="no imaging.nii.gz")


SOURCE = Source(
    title="KiTS, the Kidney Tumor Segmentation Challenge",
    url="https://kits-challenge.org",
    licence="CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/",
    citation="Heller et al., The KiTS19 Challenge Data, arXiv:1904.00445 (2019)",
    labels={1: "kidney", 2: "tumour", 3: "cyst"},
    list_cases=list_cases,
)
