"""A real chest CT with another model's mask of it, for tests that have the project's data."""

from pathlib import Path

import nibabel as nib
from nibabel.processing import resample_from_to

PATIENT, MASK = "thorax_35", "thorax_35_seed123"  # of the test split: no network or prior has seen the patient
SLICES = slice(36, 84)  # with parts of all four structures, in both masks


def cut_chest(data: Path, folder: Path, slices: slice = SLICES) -> tuple[Path, Path]:
    """Write slices of the CT, and the mask on the CT's grid, as `chest.nii.gz` in `images` and `labels`; return both.

    Args:
        data: the data set's folder, with `images` and `predictions`.
        folder: where the files go.
        slices: which, by number.
    """
    image_file, mask_file = (folder / part / "chest.nii.gz" for part in ("images", "labels"))
    for file in (image_file, mask_file):
        file.parent.mkdir(parents=True, exist_ok=True)
    image = nib.load(data / "images" / f"{PATIENT}.nii.gz").slicer[:, :, slices]
    mask = nib.load(data / "predictions" / "unet" / f"{MASK}.nii.gz")  # twice as fine in the slices' plane
    nib.save(image, image_file)
    nib.save(resample_from_to(mask, image, order=0), mask_file)
    return image_file, mask_file
