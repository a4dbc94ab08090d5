"""Lung lobes of Tang et al.: NRRD label maps with the labels 4–8 and a flag, 512, on the lobes' borders.

A voxel on a border holds the sum of its lobe and the flag (516 is lobe 4), or the flag alone where it belongs to none.
The flag is a single bit, so it is cleared and every border voxel keeps its lobe.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..cases.nifti_grid import as_nifti
from ..cases.nrrd_file import read_nrrd
from .case import Parts, RawCase, Source, require_cases

BORDER = 512
FIRST_LOBE = 4  # right upper; the other four follow in the order of `SOURCE.labels`
OUTSIDE = (0, 1)  # background, and lung that belongs to no lobe


def list_cases(folder: Path) -> list[RawCase]:
    """List the NRRD files of a folder, those in its subfolders too.

    Raises:
        ValueError: there are none, or two of the same name.
    """
    files = sorted(folder.rglob("*.nrrd"), key=lambda file: file.stem)
    for one, other in zip(files, files[1:], strict=False):
        if one.stem == other.stem:
            raise ValueError(f"{one} and {other} have the same name: give the folder of the annotations alone")
    return require_cases([RawCase(file.stem, _reader(file)) for file in files], folder, ".nrrd file")


def _reader(file: Path) -> Callable[[], Parts]:
    def read() -> Parts:
        values, affine = read_nrrd(file)
        return Parts(as_nifti(lobe_labels(values, str(file)), affine))

    return read


def lobe_labels(values: np.ndarray, name: str = "the label map") -> np.ndarray:
    """Return lobes 1–5, uint8, from the published labels (X, Y, Z), the border flag removed.

    Raises:
        ValueError: another label occurs.
    """
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {values.dtype}, not whole numbers")
    plain = values & ~np.array(BORDER, values.dtype) if values.dtype.itemsize > 1 else values
    known = np.isin(plain, [*OUTSIDE, *range(FIRST_LOBE, FIRST_LOBE + len(LOBES))])
    if not known.all():
        raise ValueError(f"{name} holds the labels {np.unique(plain[~known])[:8].tolist()}, which are no lobes")
    return np.where(plain >= FIRST_LOBE, plain - (FIRST_LOBE - 1), 0).astype(np.uint8)


LOBES = {
    1: "right upper lobe",
    2: "right middle lobe",
    3: "right lower lobe",
    4: "left upper lobe",
    5: "left lower lobe",
}
SOURCE = Source(
    title="Lung lobes of 50 LUNA16 scans (Tang et al. 2019)",
    url="https://github.com/deep-voxel/automatic_pulmonary_lobe_segmentation_using_deep_learning",
    licence="CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/",
    citation="Tang, Zhang and Xie, Automatic Pulmonary Lobe Segmentation Using Deep Learning, arXiv:1903.09879 (2019)",
    labels=LOBES,
    list_cases=list_cases,
)
