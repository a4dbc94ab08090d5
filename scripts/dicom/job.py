"""The command `dicom`: between a DICOM series and the files that the refinement reads and writes."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from ..cases.files import whole_file
from ..cases.find import VOLUMES, case_name
from ..cases.read import read_labels
from ..cases.write import write_new_label_map, write_nifti
from ..organ.pack import OrganPack
from ..organ.several import load_packs
from ..report.run_report import bundle_version
from .grid import OffGrid, on_grid
from .mask import Mask
from .rtstruct import parts_of_rtstruct, read_rtstruct, write_rtstruct
from .seg import parts_of_seg, read_seg, write_seg
from .segments import MOST, VALUE, segments_of, values_of
from .series import Series

REFINED = ", refined; research only, not for diagnosis"
MOST_LETTERS = 64  # of a series' description
READERS = {"SEG": (parts_of_seg, read_seg), "RTSTRUCT": (parts_of_rtstruct, read_rtstruct)}
INCOMPLETE = (AttributeError, KeyError, IndexError, TypeError)  # what reading raises where an element is missing

logger = logging.getLogger(__name__)


def dicom(series_dir: str, mask: str = "", output_dir: str = "output/dicom", organ: str = "") -> str:
    """Turn a DICOM series and its mask into each other's files.

    A mask as NIfTI, NRRD or MetaImage, on the series' grid, becomes <mask>_seg.dcm (DICOM SEG) and
    <mask>_rtstruct.dcm (RTSTRUCT); both are read back and compared with it voxel by voxel. A DICOM SEG or RTSTRUCT file
    becomes <mask>.nii.gz, a label map that refine reads. Without a mask the series becomes <folder>.nii.gz, an image.

    Args:
        series_dir: folder of one series, with its slices below it, under any names.
        mask: label map on the series' grid, with axes in any order and direction; or a SEG or RTSTRUCT file of it.
        output_dir: where the files go.
        organ: organ pack of the mask, for names, colours and codes, and for the values of what is read; several with
            commas, as for refine.

    Returns:
        What was written.

    Raises:
        ValueError: the folder holds no whole series, the mask is not on its grid, or of no label, or a file of the
            result's name is there already.
        OrganError: there is no such organ pack.
        CaseError: the mask cannot be read.
    """
    series, folder = Series.open(Path(series_dir)), Path(output_dir)
    pack = load_packs(organ) if organ else None
    if not mask:
        target = _new(folder / f"{Path(series_dir).resolve().name}.nii.gz")
        image = nib.Nifti1Image(series.values(), series.affine)
        image.header.set_xyzt_units("mm")
        write_nifti(target, image)
        return f"{target}: the series, {_size(series)}"
    if mask.lower().endswith(VOLUMES):
        return write_both(mask, series, folder, pack)
    name = Path(mask).name
    target = _new(folder / f"{name[:-4] if name.lower().endswith('.dcm') else name}.nii.gz")
    labels, names = read_mask(Path(mask), series, pack)
    write_new_label_map(target, labels, series.affine, {v: one for v, one in names.items() if not VALUE.fullmatch(one)})
    lines = [f"{value}: {name}, {np.count_nonzero(labels == value)} voxels" for value, name in names.items()]
    return "\n".join([f"{target}: on the grid of the series, {_size(series)}", *lines])


def write_both(mask: str, series: Series, folder: Path, pack: OrganPack | None) -> str:
    """Write a mask as SEG and RTSTRUCT; a file gets its name when it was read back.

    Raises:
        ValueError: it lies on another grid, holds no label or too large ones, or a file does not give it back or is
            there already.
        CaseError: it cannot be read.
    """
    targets = {kind: _new(folder / f"{case_name(mask)}_{kind.lower()}.dcm") for kind in READERS}
    values, affine = read_labels(mask)
    try:
        labels = on_grid(values, affine, series.shape, series.affine)
    except OffGrid as error:
        raise ValueError(f"{mask} is not on the grid of the series in {series.folder}: {error}") from error
    found = [int(value) for value in np.unique(labels) if value != 0]
    if not found or not 1 <= found[0] <= found[-1] <= MOST:
        raise ValueError(f"{mask} holds {'no label' if not found else f'labels beyond 1 to {MOST}'}: nothing to write")
    title = title_of(case_name(mask) if pack is None else pack.name)
    whole = Mask(labels, series, segments_of(found, pack), bundle_version(), title)
    lines = []
    for write, target in zip((write_seg, write_rtstruct), targets.values(), strict=True):
        with whole_file(target) as temporary:
            write(temporary, whole)
            off = int(np.count_nonzero(read_mask(temporary, series)[0] != labels))
            if off:
                raise ValueError(f"{target} would give {off} voxels back that differ from {mask}: it is not written")
        lines.append(f"{target}: {len(found)} labels, read back with 0 of {labels.size} voxels off")
    return "\n".join(lines)


def read_mask(path: Path, series: Series, pack: OrganPack | None = None) -> tuple[np.ndarray, dict[int, str]]:
    """Read a SEG or RTSTRUCT file.

    Args:
        path: of the file.
        series: that it was drawn on.
        pack: whose labels' values are taken, by their names; None for the file's own.

    Returns:
        The label map (columns, rows, slices) uint8 on the grid of the series, and value → name of its labels.

    Raises:
        ValueError: it is neither, lacks something, is not of this series, or no voxel of it lies there.
    """
    try:
        file = pydicom.dcmread(path)
    except (InvalidDicomError, OSError) as error:
        raise ValueError(f"{path} is no label map and no DICOM file: {error}") from error
    kind = str(file.get("Modality", "none"))
    if kind not in READERS:
        raise ValueError(f"{path} is of the modality {kind}, not SEG or RTSTRUCT")
    parts_of, read = READERS[kind]
    try:
        parts = parts_of(file)
        values = values_of(parts, pack)
        names = {values[part.number]: part.name for part in parts if part.number in values}
        names |= {value: pack.labels[value] for value in names} if pack is not None else {}
        labels = read(file, series, values, names)
    except OffGrid as error:
        raise ValueError(f"{path} is not on the grid of the series in {series.folder}: {error}") from error
    except INCOMPLETE as error:
        raise ValueError(f"{path} lacks what a {kind} file must have: {error}") from error
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be read as {kind}: {error}") from error
    empty = [value for value in names if not (labels == value).any()]
    if len(empty) == len(names):
        raise ValueError(f"{path} has no voxel in the series, of {len(parts)} parts: nothing to write")
    if empty:
        logger.warning(f"{path}: no voxel is of {', '.join(names[value] for value in empty)}")
    return labels, {value: names[value] for value in sorted(names) if value not in empty}


def title_of(name: str) -> str:
    """Return the description of a series: a long name is cut, what the files are not for stays."""
    return name[: MOST_LETTERS - len(REFINED)] + REFINED


def _new(path: Path) -> Path:
    """Return a path at which there is nothing yet.

    Raises:
        ValueError: there is.
    """
    if path.exists():
        raise ValueError(f"{path} is there already, perhaps of another case: remove it or give another --output_dir")
    return path


def _size(series: Series) -> str:
    return " x ".join(map(str, series.shape)) + " voxels"
