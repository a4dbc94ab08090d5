"""A data set of made-up hippocampi whose images show the organ plainly."""

from pathlib import Path

import nibabel as nib
import numpy as np

from tests.helpers.mean_shape import mean_shape


def write_plain_data(folder: Path, count: int) -> None:
    """Write `images/case_N.nii.gz` and `labels/case_N.nii.gz`, the mean shape shifted by some voxels, for N cases."""
    label_map, affine = mean_shape("plain")
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        shifted = np.roll(label_map, number - 1, axis=1)
        noise = np.random.default_rng(number).normal(0.0, 10.0, shifted.shape)
        image = nib.Nifti1Image((100.0 * (shifted > 0) + 50.0 + noise).astype(np.float32), affine)
        nib.save(image, folder / "images" / f"case_{number}.nii.gz")
        nib.save(nib.Nifti1Image(shifted, affine), folder / "labels" / f"case_{number}.nii.gz")
