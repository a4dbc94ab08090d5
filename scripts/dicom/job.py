"""The command `dicom`: between a DICOM series and the files that the refinement reads and writes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from ..cases.find import VOLUMES, case_name
from ..cases.read import read_labels
from ..cases.write import write_new_label_map, write_nifti
from ..organ.pack import OrganPack
from ..organ.several import load_packs
from ..report.run_report import bundle_version
from .grid import OffGrid, on_grid
from .rtstruct import read_rtstruct, write_rtstruct
from .seg import read_seg, write_seg
from .segments import segments_of
from .series import Series

TITLE = "{}, refined; research only, not for diagnosis"
READERS = {"SEG": read_seg, "RTSTRUCT": read_rtstruct}
MOST = 255  # label values


def dicom(series_dir: str, mask: str = "", output_dir: str = "output/dicom", organ: str = "") -> str:
    """Turn a DICOM series and its mask into each other's files.

    A mask as NIfTI, NRRD or MetaImage, on the series' grid, becomes <mask>_seg.dcm (DICOM SEG) and
    <mask>_rtstruct.dcm (RTSTRUCT); both are read back and compared with it voxel by voxel. A DICOM SEG or RTSTRUCT file
    becomes <mask>.nii.gz, a label map that refine reads. Without a mask the series becomes <folder>.nii.gz, an image.

    Args:
        series_dir: folder of one series, with its slices below it, under any names.
        mask: label map on the series' grid, with axes in any order and direction; or a SEG or RTSTRUCT file of it.
        output_dir: where the files go.
        organ: organ pack of the mask, for names, colours and codes; several with commas, as for refine.

    Returns:
        What was written.

    Raises:
        ValueError: the folder holds no whole series, or the mask is not on its grid, or of no label.
        OrganError: there is no such organ pack.
        CaseError: the mask cannot be read.
    """
    series, folder = Series.open(Path(series_dir)), Path(output_dir)
    if not mask:
        image = nib.Nifti1Image(series.values(), series.affine)
        image.header.set_xyzt_units("mm")
        write_nifti(folder / f"{Path(series_dir).resolve().name}.nii.gz", image)
        return f"{folder / Path(series_dir).resolve().name}.nii.gz: the series, {_size(series)}"
    if not mask.lower().endswith(VOLUMES):
        target = folder / f"{Path(mask).stem}.nii.gz"
        labels = read_mask(Path(mask), series)
        write_new_label_map(target, labels, series.affine)
        values = ", ".join(str(value) for value in np.unique(labels[labels > 0]))
        return f"{target}: the labels {values}, on the grid of the series, {_size(series)}"
    pack = load_packs(organ) if organ else None
    return write_both(mask, series, folder, pack)


def write_both(mask: str, series: Series, folder: Path, pack: OrganPack | None) -> str:
    """Write a mask as SEG and RTSTRUCT, and read both back.

    Raises:
        ValueError: it lies on another grid, holds no label or too large ones, or a file does not give it back.
        CaseError: it cannot be read.
    """
    values, affine = read_labels(mask)
    try:
        labels = on_grid(values, affine, series.shape, series.affine)
    except OffGrid as error:
        raise ValueError(f"{mask} is not on the grid of the series in {series.folder}: {error}") from error
    found = [int(value) for value in np.unique(labels) if value != 0]
    if not found or not 1 <= found[0] <= found[-1] <= MOST:
        raise ValueError(f"{mask} holds {'no label' if not found else f'labels beyond 1 to {MOST}'}: nothing to write")
    segments = segments_of(found, pack)
    title = TITLE.format(case_name(mask) if pack is None else pack.name)
    lines = []
    for kind, write in (("SEG", write_seg), ("RTSTRUCT", write_rtstruct)):
        target = folder / f"{case_name(mask)}_{kind.lower()}.dcm"
        write(target, labels, series, segments, bundle_version(), title)
        off = int(np.count_nonzero(read_mask(target, series) != labels))
        if off:
            raise ValueError(f"{target} gives {off} voxels back that differ from {mask}: do not use it")
        lines.append(f"{target}: {len(segments)} labels, read back with 0 of {labels.size} voxels off")
    return "\n".join(lines)


def read_mask(path: Path, series: Series) -> np.ndarray:
    """Return a SEG or RTSTRUCT file as a label map (columns, rows, slices) on the grid of its series.

    Raises:
        ValueError: it is neither, or not of this series.
    """
    try:
        file = pydicom.dcmread(path)
    except (InvalidDicomError, OSError) as error:
        raise ValueError(f"{path} is no label map and no DICOM file: {error}") from error
    reader = READERS.get(str(file.get("Modality", "")))
    if reader is None:
        raise ValueError(f"{path} is of the modality {file.get('Modality', 'none')}, not SEG or RTSTRUCT")
    try:
        return reader(file, series)
    except OffGrid as error:
        raise ValueError(f"{path} is not on the grid of the series in {series.folder}: {error}") from error


def _size(series: Series) -> str:
    return " x ".join(map(str, series.shape)) + " voxels"
