"""Volumes in FreeSurfer's format (`.mgz`, `.mgh`), as FastSurfer writes them, read and written by nibabel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from ..geometry.affine import check_affine

MOST_COMPRESSION = 1100  # gzip makes a file at most 1032 times smaller


def read_mgh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a volume.

    Returns:
        The values (X, Y, Z) in the type stored but this machine's byte order, and the affine (4, 4), voxel index →
        world mm, RAS+.

    Raises:
        ValueError: the file is not one 3D volume of that format, or its data are not whole.
    """
    try:
        image = nib.MGHImage.from_filename(path)
        shape, dtype = tuple(map(int, image.shape)), image.get_data_dtype()
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"it has the shape {shape}, not that of one 3D volume")
        if np.prod(shape, dtype=float) * dtype.itemsize > MOST_COMPRESSION * path.stat().st_size:  # do not allocate it
            raise ValueError("it is truncated")
        values = np.array(image.dataobj, dtype.newbyteorder("="))
        return values, check_affine(np.asarray(image.affine, float))
    except Exception as error:  # nibabel's reader has errors of many kinds for a damaged header
        line = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read as MGH ({line}): copy or export it again") from error


def like(stored: np.ndarray, reference: Path) -> nib.MGHImage:
    """Return values (X, Y, Z) that the reference's data type holds, with the header of that file."""
    image = nib.MGHImage.from_filename(reference)
    return nib.MGHImage(stored.astype(image.get_data_dtype()), image.affine, image.header)
