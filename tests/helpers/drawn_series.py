"""A made-up series with a label map drawn on it."""

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from tests.helpers.series import write_host_series

SHAPE = (16, 11, 8)  # columns, rows, slices; whole bytes a slice, else GDCM, which SimpleITK reads with, errs
RAS = np.diag([-1.0, -1.0, 1.0])


def affine_of(kind: str) -> np.ndarray:
    """A right-handed grid: straight, or oblique with voxels of three lengths."""
    affine = np.eye(4)
    turn = np.eye(3) if kind == "straight" else Rotation.from_euler("xyz", [25, -18, 40], degrees=True).as_matrix()
    affine[:3, :3] = RAS @ turn @ np.diag([0.7, 1.1, 2.5])
    affine[:3, 3] = (-31.25, 64.5, -200.0)
    return affine


def labels() -> np.ndarray:
    """Two labels: one with a hole, in two pieces and at the border, the other in one slice; none symmetric."""
    values = np.zeros(SHAPE, np.uint8)
    values[1:8, 2:9, 1:6] = 1
    values[3:6, 4:7, 2:5] = 0
    values[4, 5, 3] = 1  # an island in the hole
    values[12:, 0:2, 7] = 1
    values[9:13, 4:6, 3] = 2
    values[10, 6, 3] = 2
    return values


def write_case(folder: Path, kind: str) -> Path:
    """Write the image, its series and its mask into a folder, which is returned."""
    affine = affine_of(kind)
    image = np.random.default_rng(0).integers(1, 900, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(image, affine), folder / "image.nii.gz")
    write_host_series(folder / "series", folder / "image.nii.gz", "CT")
    nib.save(nib.Nifti1Image(labels(), affine), folder / "mask.nii.gz")
    return folder
