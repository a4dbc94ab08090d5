"""KiTS: `case_00000/imaging.nii.gz` and `segmentation.nii.gz`; 1 kidney, 2 tumour, and from 2021 on 3 cyst.

KiTS19, which the pack `kidneys` was learned from, counts cysts to the kidney. So they are written as kidney.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from ..cases.read import check_header, labels_of, open_volume
from .case import Parts, RawCase, Source, require_cases

KIDNEY, CYST = 1, 3


def list_cases(folder: Path) -> list[RawCase]:
    """List the cases with a segmentation; an image that has not been downloaded is left out.

    Raises:
        ValueError: there are none.
    """
    labels = sorted(folder.glob("case_*/segmentation.nii.gz"))
    cases = [RawCase(label.parent.name, _reader(label)) for label in labels]
    return require_cases(cases, folder, "case_*/segmentation.nii.gz")


def _reader(label: Path) -> Callable[[], Parts]:
    return lambda: _read(label)


def _read(label: Path) -> Parts:
    scan = label.with_name("imaging.nii.gz")
    image, notes = (scan, []) if scan.is_file() else (None, ["no imaging.nii.gz"])
    opened = open_volume(label)
    check_header(opened, label)
    values = labels_of(opened, label)
    if not (values == CYST).any():
        return Parts(label, image, "; ".join(notes))
    written = np.where(values == CYST, KIDNEY, values).astype(opened.get_data_dtype())
    converted = nib.Nifti1Image(written.reshape(opened.shape), opened.affine, opened.header)
    return Parts(converted, image, "; ".join([*notes, f"cyst ({CYST}) written as kidney ({KIDNEY})"]))


SOURCE = Source(
    title="KiTS, the Kidney Tumor Segmentation Challenge",
    url="https://kits-challenge.org",
    licence="CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/",
    citation="Heller et al., The KiTS19 Challenge Data, arXiv:1904.00445 (2019)",
    labels={KIDNEY: "kidney", 2: "tumour"},
    list_cases=list_cases,
)
