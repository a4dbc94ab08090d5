"""SegTHOR: `Patient_01/Patient_01.nii.gz` and `GT.nii.gz`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .case import Parts, RawCase, Source, require_cases


def list_cases(folder: Path) -> list[RawCase]:
    """List the patients with a ground truth; the challenge's test patients have none.

    Raises:
        ValueError: there are none.
    """
    labels = sorted(folder.glob("Patient_*/GT.nii.gz"))
    cases = [RawCase(label.parent.name, _reader(label)) for label in labels]
    return require_cases(cases, folder, "Patient_*/GT.nii.gz")


def _reader(label: Path) -> Callable[[], Parts]:
    return lambda: Parts(label, label.with_name(f"{label.parent.name}.nii.gz"))


SOURCE = Source(
    title="SegTHOR, Segmentation of THoracic Organs at Risk in CT images",
    url="https://competitions.codalab.org/competitions/21145",
    licence="research use, under the terms of the challenge",
    citation="Lambert et al., SegTHOR: Segmentation of Thoracic Organs at Risk in CT images, arXiv:1912.05950 (2019)",
    labels={1: "oesophagus", 2: "heart", 3: "trachea", 4: "aorta"},
    list_cases=list_cases,
)
