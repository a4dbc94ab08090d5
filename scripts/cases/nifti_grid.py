"""Where a NIfTI file says that its voxels lie: the one affine that counts for images, masks, labels and probabilities.

A header may hold two forms, an sform and a qform, and the spacing in `pixdim`. The sform counts where its code says
that there is one, else the qform, as nibabel has it; where they disagree, that is said. Headers in metres or
micrometres are brought to millimetres. What is written keeps the header that it came with, and so its own units.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.openers import Opener
from nibabel.spatialimages import HeaderDataError

from ..geometry.affine import grids_apart_mm, is_sheared, same_grid

MM_OF_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # NIFTI_UNITS_METER, _MM and _MICRON; others are taken for mm
UNIT_BITS = 7
NIFTI2_STARTS = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # 540, the size of its header, in either byte order
LONGEST_QUATERNION = 1.01  # squared length up to which one is rounded, not wrong


def affine_mm(image: nib.Nifti1Image) -> np.ndarray:
    """Return the affine (4, 4) of an opened file, voxel index → world mm."""
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= MM_OF_UNIT.get(int(image.header["xyzt_units"]) & UNIT_BITS, 1.0)
    return affine


def disagreement(image: nib.Nifti1Image) -> str:
    """Return in words where the forms of a header disagree by more than `same_grid` allows; "" where they do not."""
    header, affine, shape = image.header, np.asarray(image.affine, float), image.shape[:3]
    spacing = np.asarray(header["pixdim"][1:4], float)
    usable = len(shape) == 3 and np.isfinite(spacing).all() and (spacing > 0).all() and np.isfinite(affine).all()
    if int(header["sform_code"]) <= 0 or not usable:
        return ""
    if int(header["qform_code"]) > 0:
        try:
            name, other = "qform", header.get_qform()
        except (ValueError, HeaderDataError):
            return "its qform is no rotation: the sform counts; if places look wrong, repair the header"
    else:
        name, other = "pixdim", affine.copy()
        other[:3, :3] *= spacing / np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(other).all() or same_grid(shape, affine, shape, other):
        return ""
    return (
        f"its sform and its {name} put voxels up to {grids_apart_mm(shape, affine, other):.3g} units apart: the sform "
        "counts; if volumes or places look wrong, repair the header"
    )


def mend_quaternion(header: Any) -> None:
    """Bring the quaternion of a qform to length 1 where rounding has made it longer, which nibabel refuses."""
    parts = np.array([header[f"quatern_{name}"] for name in "bcd"], dtype=np.float64)
    squared = float(parts @ parts)
    if int(header["qform_code"]) > 0 and 1.0 < squared <= LONGEST_QUATERNION:
        for name, part in zip("bcd", parts / np.sqrt(squared), strict=True):
            header[f"quatern_{name}"] = part


def open_mended(path: str | Path) -> nib.Nifti1Image:
    """Open a NIfTI file that nibabel refuses for what does not matter, mended.

    That is a quaternion which is a rounding error too long (see `mend_quaternion`), or header extensions that cannot be
    read: the file is opened without them.

    Raises:
        Exception: what nibabel raises where it cannot be read even so.
    """
    with Opener(str(path)) as file:
        kind = nib.Nifti2Image if file.read(4) in NIFTI2_STARTS else nib.Nifti1Image
        file.seek(0)
        try:
            header = kind.header_class.from_fileobj(file)
        except Exception:  # of extensions: nibabel has a reader for each kind
            file.seek(0)
            header = kind.header_class(file.read(kind.header_class.sizeof_hdr))
    mend_quaternion(header)
    return kind(ArrayProxy(str(path), header.copy()), header.get_best_affine(), header)


def as_nifti(values: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """Return a converted volume (X, Y, Z) with its affine (4, 4), voxel index → world mm, RAS+, in sform and qform.

    A qform cannot hold the shear of a tilted gantry: such a volume has none.
    """
    image = nib.Nifti1Image(values, affine, dtype=values.dtype)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=0 if is_sheared(affine) else 1)
    image.header.set_xyzt_units("mm")
    return image
