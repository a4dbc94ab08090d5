"""Volumes on disk: how results are written, with the header of the file that they came from."""

from __future__ import annotations

import gzip
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike

from .files import whole_file
from .find import is_meta_image, is_mgh, is_nifti
from .label_names import table_of
from .labels import label_values
from .meta_image import data_file
from .meta_image import like as meta_image_like
from .mgh_file import like as mgh_like
from .nrrd_file import like as nrrd_like
from .read import labels_of, open_volume, scaling


def copy_volume(source: str | Path, target: str | Path, names: Mapping[int, str] | None = None) -> None:
    """Copy a NIfTI file byte for byte, compressing a `.nii` (the target is a `.nii.gz`); others are converted.

    With `names`, value → name, the copy's header has a table of these.
    """
    if names:
        write_nifti(target, _with_names(open_volume(source), names))
        return
    if not is_nifti(source):
        write_nifti(target, open_volume(source))
        return
    with whole_file(target) as temporary:
        if str(source).lower().endswith(".gz"):
            shutil.copyfile(source, temporary)
        else:
            temporary.write_bytes(gzip.compress(Path(source).read_bytes(), mtime=0))


def copy_as_given(source: Path, target: Path) -> None:
    """Copy a volume's file byte for byte, and first the file beside it that holds the voxels of a `.mhd`."""
    data = data_file(source) if is_meta_image(source) else None
    if data is not None:
        with whole_file(target.with_name(data.name)) as temporary:
            shutil.copyfile(data, temporary)
    with whole_file(target) as temporary:
        shutil.copyfile(source, temporary)


def write_nifti(path: str | Path, image: nib.Nifti1Image) -> None:
    """Write a NIfTI file, whole or not at all; compressed if the name says so."""
    with whole_file(path) as temporary:
        nib.save(image, temporary)


def write_new_label_map(
    path: str | Path, labels: np.ndarray, affine: ArrayLike, names: Mapping[int, str] | None = None
) -> None:
    """Write a label map (X, Y, Z) on a grid that no file has, as uint8.

    Args:
        path: where.
        labels: (X, Y, Z) whole numbers up to 255.
        affine: (4, 4) voxel → world mm (RAS+).
        names: value → name, for a table in the header; None for none.
    """
    image = nib.Nifti1Image(labels.astype(np.uint8), np.asarray(affine, float))
    image.header.set_xyzt_units("mm")
    image.set_qform(image.affine, int(image.header["sform_code"]))
    if names:
        image.header.extensions.append(table_of(names))
    write_nifti(path, image)


def _with_names(image: nib.Nifti1Image, names: Mapping[int, str]) -> nib.Nifti1Image:
    """Return an image, as it is stored, with a table of names in its header."""
    header, (slope, inter) = image.header.copy(), scaling(image)
    header.extensions.append(table_of(names))
    unscaled = getattr(image.dataobj, "get_unscaled", None)
    named = type(image)(np.asarray(image.dataobj if unscaled is None else unscaled()), image.affine, header)
    named.header.set_slope_inter(slope, inter)  # which a new image does not take from its header
    return named


def _part(image: nib.Nifti1Image, box: tuple[slice, slice, slice]) -> nib.Nifti1Image:
    """Return a part of an image with the codes of the whole's sform and qform, which nibabel's slicer changes."""
    part = image.slicer[box]
    affine = part.affine
    part.set_qform(affine, int(image.header["qform_code"]), update_affine=False)
    part.set_sform(affine, int(image.header["sform_code"]), update_affine=False)
    return part


def write_label_map(
    path: str | Path,
    labels: np.ndarray,
    reference: str | Path,
    dtype: np.dtype | str | None = None,
    extensions: bool = True,
    box: tuple[slice, slice, slice] | None = None,
    names: Mapping[int, str] | None = None,
) -> None:
    """Write a label map with the header of another file: shape, affine, sform and qform codes, units, extensions.

    In the reference's own data type, voxels that mean what they meant there are stored as they were, bit for bit, even
    where that is not the label itself (0.996, or a whole number that the header scales).

    Args:
        path: where, ending in `.nii.gz`; or as the reference does, in its format.
        labels: (X, Y, Z) whole numbers.
        reference: volume on the same grid; a last axis of one is kept.
        dtype: data type on disk; None for the reference's, which must hold the values.
        extensions: whether the reference's header extensions are kept, such as a table of its labels' names.
        box: the part of the reference's grid that the labels cover; None for all of it.
        names: value → name, for a table of names in the header; None for no other than the reference's.

    Raises:
        RuntimeError: the labels are on another grid, or do not fit the data type.
    """
    image = open_volume(reference)
    image = image if box is None else _part(image, box)
    if tuple(labels.shape) != image.shape[:3]:
        raise RuntimeError(f"labels of shape {labels.shape} do not fit {reference} of shape {image.shape}")
    slope, inter = (1.0, 0.0) if dtype is not None else scaling(image)
    if dtype is None and ((slope, inter) != (1.0, 0.0) or image.get_data_dtype().kind == "f"):
        stored = _as_stored(labels, image, reference)
        means = np.rint(stored * slope + inter)
    else:
        means = stored = labels.astype(np.dtype(dtype) if dtype is not None else image.get_data_dtype())
    if not np.array_equal(means, labels):
        raise RuntimeError(f"labels up to {labels.max()} do not fit the data type {stored.dtype} of {path}")
    if not is_nifti(path):
        _write_like(Path(path), stored, Path(reference))
        return
    header = image.header.copy()
    if not extensions:
        header.extensions.clear()
    if names:
        header.extensions.append(table_of(names))
    header.set_data_dtype(stored.dtype)
    if dtype is not None:
        header["cal_min"], header["cal_max"] = 0, 0  # the display range of an image is none of a label map's
    shape = image.shape if math.prod(image.shape[3:]) == 1 else image.shape[:3]  # of layers, one label map
    written = type(image)(stored.reshape(shape), image.affine, header)
    written.header.set_slope_inter(slope, inter)  # which a new image does not take from its header
    write_nifti(path, written)


def write_layers(path: Path, layers: np.ndarray, reference: Path) -> None:
    """Write layers (X, Y, Z, layers) of 3D Slicer's segments with the header of the file that they came from."""
    _write_like(path, np.moveaxis(layers, -1, 0), reference)


def _write_like(path: Path, stored: np.ndarray, reference: Path) -> None:
    """Write values (X, Y, Z), or (layers, X, Y, Z), in another format, with the header of another file."""
    if is_mgh(path):
        with whole_file(path) as temporary:
            nib.save(mgh_like(stored, reference), temporary)
        return
    if not is_meta_image(path):
        with whole_file(path) as temporary:
            temporary.write_bytes(nrrd_like(stored, reference))
        return
    header, data = meta_image_like(stored, reference)
    beside = data_file(reference)
    if beside is not None:
        with whole_file(path.with_name(beside.name)) as temporary:
            temporary.write_bytes(data)
    with whole_file(path) as temporary:
        temporary.write_bytes(header if beside is not None else header + data)


def _as_stored(labels: np.ndarray, image: nib.Nifti1Image, path: str | Path) -> np.ndarray:
    """Return label values (X, Y, Z) as an opened file stores them; voxels that have not changed keep what they hold."""
    before, (slope, inter) = labels_of(image, path), scaling(image)
    unscaled = getattr(image.dataobj, "get_unscaled", None)
    stored = np.array(image.dataobj if unscaled is None else unscaled()).reshape(labels.shape)
    changed = before != labels
    for value in label_values(labels[changed]):
        same = before == value
        stored[changed & (labels == value)] = stored[same][0] if same.any() else np.rint((value - inter) / slope)
    return stored
