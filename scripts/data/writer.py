"""One writer for all layouts: checks a case and puts it into `images/` and `labels/`, never resampled."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import nibabel as nib

from ..cases.find import SUFFIXES
from ..cases.labels import label_values
from ..cases.read import check_header, labels_of, open_volume, read_values
from ..cases.write import copy_volume, write_nifti
from ..geometry.affine import grids_apart_mm, same_grid
from .case import Parts, RawCase, Volume

IMAGES, LABELS = "images", "labels"


def write_case(case: RawCase, out_dir: Path, labels: Collection[int] = (), link: bool = False) -> str:
    """Check a case and write `out_dir`/labels/<name>.nii.gz and, where it has an image, `out_dir`/images/<name>.nii.gz.

    Args:
        case: the case.
        out_dir: an existing folder.
        labels: the label values that may occur beside 0; empty for any.
        link: make symbolic links to NIfTI files instead of copies; what was converted is written all the same.

    Returns:
        The case's note.

    Raises:
        CaseError: a file cannot be read, is no 3D label map, or has no usable affine.
        ValueError: labels are not as they should be, or image and label are not on one grid.
        OSError: nothing can be written.
    """
    parts = case.read()
    _check(case.name, parts, labels)
    _write(parts.label, out_dir / LABELS, case.name, link)
    if parts.image is not None:
        _write(parts.image, out_dir / IMAGES, case.name, link)
    return parts.note


def _check(name: str, parts: Parts, labels: Collection[int]) -> None:
    file, image = _opened(parts.label, name)
    affine = check_header(image, file)
    found = [v for v in label_values(labels_of(image, file)) if v != 0]
    unknown = sorted(set(found) - set(labels)) if labels else []
    if not found:
        raise ValueError(f"{file} holds no label at all")
    if unknown:
        raise ValueError(f"{file} holds the labels {unknown[:8]}; {sorted(labels)} are expected")
    if parts.image is None:
        return
    scan_file, scan = _opened(parts.image, name)
    scan_affine = check_header(scan, scan_file, channels=True)
    if scan.shape[:3] != image.shape[:3]:
        raise ValueError(f"{scan_file} has the shape {scan.shape}, its label {image.shape}")
    if not same_grid(image.shape[:3], affine, scan.shape[:3], scan_affine):
        apart = grids_apart_mm(image.shape[:3], affine, scan_affine)
        raise ValueError(f"{scan_file} and its label lie up to {apart:.3g} mm apart in the world")
    read_values(scan, scan_file)


def _opened(volume: Volume, name: str) -> tuple[str, nib.Nifti1Image]:
    return (str(volume), open_volume(volume)) if isinstance(volume, Path) else (name, volume)


def _write(volume: Volume, folder: Path, name: str, link: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for ending in SUFFIXES:
        (folder / f"{name}{ending}").unlink(missing_ok=True)  # an earlier run may have linked the other kind
    if not isinstance(volume, Path):
        write_nifti(folder / f"{name}.nii.gz", volume)
    elif link:
        ending = next(ending for ending in SUFFIXES if volume.name.lower().endswith(ending))
        (folder / f"{name}{ending}").symlink_to(volume.resolve())
    else:
        copy_volume(volume, folder / f"{name}.nii.gz")
