"""NIH Pancreas-CT: DICOM series under PANCREAS_0001/, label maps label0001.nii.gz in a folder of their own.

The label maps have the scans' voxels, but their headers do not always say so: published ones are known to be turned
over front to back or top to bottom against the DICOM series. So a label is placed by geometry where its header puts
it on the scan's grid, and the placing is checked against the scan: a pancreas is one tissue, whereas a label turned
over covers fat, bone, muscle and air at once. What was done is noted in DATA.md, case by case.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..cases.nifti_grid import as_nifti
from ..cases.read import check_header, open_volume, read_values
from ..dicom.series import read_series
from ..geometry.affine import grids_apart_mm, spacing_mm
from .case import Parts, RawCase, Source, require_cases

TURNS: dict[str, tuple[int, ...]] = {  # what is turned over → axes of the scan's array
    "": (),
    "front to back": (1,),
    "top to bottom": (2,),
    "front to back and top to bottom": (1, 2),
}
CLEARLY = 0.8  # a placing wins where its tissue varies by less than this share of another's
WINDOW_HU = (-200.0, 300.0)


def list_cases(folder: Path) -> list[RawCase]:
    """List the label maps below a folder that have a DICOM series of the same number.

    Raises:
        ValueError: there are none.
    """
    scans = {_number(path): path for path in sorted(folder.rglob("PANCREAS_*")) if path.is_dir()}
    labels = {_number(path): path for path in sorted(folder.rglob("label*.nii*"))}
    cases = [RawCase(f"pancreas_{n:04d}", _reader(scans.get(n), label)) for n, label in sorted(labels.items())]
    return require_cases(cases, folder, "label0001.nii.gz or its like")


def _number(path: Path) -> int:
    found = re.search(r"(\d+)", path.name)
    if found is None:
        raise ValueError(f"{path} has no number that says to which scan it belongs")
    return int(found.group(1))


def _reader(scan: Path | None, label: Path) -> Callable[[], Parts]:
    def read() -> Parts:
        if scan is None:
            raise ValueError(f"{label} has no DICOM folder PANCREAS_{_number(label):04d}")
        values, affine = read_series(scan)
        opened = open_volume(label)
        label_affine = check_header(opened, label)
        placed, note = place_label(read_values(opened, label), label_affine, values, affine, str(label))
        return Parts(as_nifti(placed, affine), as_nifti(values, affine), note)

    return read


def place_label(
    label: np.ndarray, label_affine: np.ndarray, scan: np.ndarray, affine: np.ndarray, name: str = "the label"
) -> tuple[np.ndarray, str]:
    """Bring a label map onto its scan's grid by reordering voxels only.

    Args:
        label: label map (A, B, C).
        label_affine: its affine (4, 4), RAS+.
        scan: (X, Y, Z), HU.
        affine: its affine (4, 4), RAS+.
        name: of the label, for messages.

    Returns:
        The label map (X, Y, Z), uint8, and a note on what was done ("" where its header was right).

    Raises:
        ValueError: the label is empty or has other voxels than the scan, or the scan cannot tell how it lies.
    """
    by_header = reorder(label, label_affine, scan.shape, affine)
    start = label if by_header is None else by_header
    if start.shape != scan.shape:
        raise ValueError(f"{name} has the shape {label.shape}, its scan {scan.shape}")
    if not start.any():
        raise ValueError(f"{name} is empty")
    spread = {turn: tissue_spread(np.flip(start, axes), scan) for turn, axes in TURNS.items()}
    best, second = sorted(spread, key=lambda turn: spread[turn])[:2]
    if by_header is not None and spread[best] >= CLEARLY * spread[""]:
        return start.astype(np.uint8), ""
    if by_header is None and spread[best] >= CLEARLY * spread[second]:
        raise ValueError(f"{name} does not lie on its scan, and the scan cannot tell how it does: repair its header")
    why = "its header puts it elsewhere" if by_header is None else "as its header has it, it covers mixed tissue"
    done = f"turned over {best}" if best else "taken voxel by voxel"
    return np.flip(start, TURNS[best]).astype(np.uint8), f"label {done}: {why}"


def reorder(
    label: np.ndarray, label_affine: np.ndarray, shape: tuple[int, ...], affine: np.ndarray
) -> np.ndarray | None:
    """Return a label map on another grid that has the same voxels in another order of axes; None where it has not."""
    between = np.linalg.inv(affine) @ label_affine  # label index → scan index
    turn = np.rint(between[:3, :3])
    if not np.array_equal(np.abs(turn).sum(0), np.ones(3)) or not np.array_equal(np.abs(turn).sum(1), np.ones(3)):
        return None
    axes = np.abs(turn).argmax(axis=1)  # scan axis → label axis
    flipped = tuple(axis for axis in range(3) if turn[axis, axes[axis]] < 0)
    placed = np.flip(label.transpose(axes), flipped)
    if placed.shape != tuple(shape):
        return None
    exact = np.eye(4)
    exact[:3, :3] = turn
    exact[list(flipped), 3] = np.array(shape)[list(flipped)] - 1
    apart = grids_apart_mm(label.shape, label_affine, affine @ exact)
    return placed if apart <= 0.5 * spacing_mm(affine).min() else None


def tissue_spread(label: np.ndarray, scan: np.ndarray) -> float:
    """Return the mean deviation from the median, HU, of the tissue that a label covers."""
    covered = np.clip(scan[label != 0].astype(float), *WINDOW_HU)
    return float(np.abs(covered - np.median(covered)).mean())


SOURCE = Source(
    title="NIH Pancreas-CT",
    url="https://www.cancerimagingarchive.net/collection/pancreas-ct/",
    licence="CC BY 3.0, https://creativecommons.org/licenses/by/3.0/",
    citation=(
        "Roth et al., Data From Pancreas-CT, The Cancer Imaging Archive (2016), "
        "https://doi.org/10.7937/K9/TCIA.2016.tNB1kqBU; Roth et al., DeepOrgan, MICCAI 2015"
    ),
    labels={1: "pancreas"},
    list_cases=list_cases,
)
