"""Volumes on disk: how they are read and checked.

Masks are read by a reader of our own, because a refined mask must come back with the shape, affine, header codes, data
type and label values it came with (see `write`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..geometry.affine import check_place
from ..geometry.resample import WorldGrid
from .arrays import in_c_order, in_world
from .errors import READ_ERRORS, CaseError, UnreadableCase, UnrefinableCase
from .find import NETWORK_OUTPUT, VOLUMES, is_meta_image, is_mgh, is_nifti, is_nrrd
from .labels import whole_numbers
from .meta_image import read_meta_image
from .mgh_file import read_mgh
from .nifti_grid import affine_mm, as_nifti, disagreement, mend_quaternion, open_mended
from .nrrd_file import read_nrrd

logger = logging.getLogger(__name__)

MOST_COMPRESSION = 1100  # gzip makes a file at most 1032 times smaller


def open_volume(path: str | Path) -> nib.Nifti1Image:
    """Open a NIfTI file: its header only. Other formats are read, and come as NIfTI images that lie where they do.

    Raises:
        UnreadableCase: the file is not there, is of another format or has a broken header.
    """
    if is_nrrd(path) or is_meta_image(path) or is_mgh(path):
        read = read_nrrd if is_nrrd(path) else read_mgh if is_mgh(path) else read_meta_image
        try:
            return as_nifti(*read(Path(path)))
        except READ_ERRORS as error:
            raise UnreadableCase(str(error)) from error
    try:
        image = nib.load(path)
    except Exception as error:  # of a header's extensions, too, of which nibabel has a reader for each kind
        image = _open_mended(path, error)
    if not isinstance(image, nib.Nifti1Image):
        raise UnreadableCase(f"{path} is {type(image).__name__}, not NIfTI: convert it to .nii.gz")
    mend_quaternion(image.header)
    return image


def _open_mended(path: str | Path, refused: Exception) -> nib.Nifti1Image:
    """Open a file that nibabel refuses, see `open_mended`.

    Raises:
        UnreadableCase: it cannot be read even so.
    """
    try:
        return open_mended(path)
    except Exception as error:
        if "w2 should be positive" in str(refused):
            raise UnreadableCase(f"{path}: its qform is no rotation ({_line(error)}): repair the header") from error
        raise UnreadableCase(f"{path} cannot be read as NIfTI ({_line(refused)}): copy or export it again") from refused


def header_warnings(path: str | Path) -> list[str]:
    """Return what a user should know of a NIfTI file's header though it can be read; [] for anything else."""
    if not Path(path).is_file() or not is_nifti(path):
        return []
    try:
        found = disagreement(open_volume(path))
    except CaseError:
        return []
    return [f"{path}: {found}"] if found else []


def read_values(image: nib.Nifti1Image, path: str | Path) -> np.ndarray:
    """Read the voxel values of an opened NIfTI file, in the type stored unless the header scales them.

    Raises:
        UnreadableCase: the data are truncated or corrupt, or colours.
    """
    if image.get_data_dtype().fields:
        raise UnreadableCase(f"{path} holds colours: export it as a label map, or as an image of one channel")
    # What no file of that size can hold is not allocated; of other formats it has been read.
    stored = image.get_data_dtype().itemsize * math.prod(image.shape)
    if is_nifti(path) and Path(path).is_file() and stored > MOST_COMPRESSION * Path(path).stat().st_size:
        raise UnreadableCase(
            f"{path} is truncated or corrupt (its header promises the shape {image.shape}, which it is too small for): "
            "copy or export it again"
        )
    try:
        return np.asanyarray(image.dataobj)
    except READ_ERRORS as error:
        raise UnreadableCase(f"{path} is truncated or corrupt ({_line(error)}): copy or export it again") from error


def read_array(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a file's values (X, Y, Z) in the type stored, and its affine (4, 4), voxel → world mm.

    Raises:
        UnreadableCase: the file cannot be read.
        UnrefinableCase: it is no 3D volume, or has no usable affine.
    """
    image = open_volume(path)
    affine = check_header(image, path)
    log_disagreement(image, path)
    return read_values(image, path).reshape(image.shape[:3]), affine


def read_grid(path: str | Path) -> WorldGrid:
    """Return the grid of a file.

    Raises:
        UnreadableCase: the file cannot be read.
        UnrefinableCase: it is no 3D volume, or has no usable affine.
    """
    image = open_volume(path)
    x, y, z = image.shape[:3] if len(image.shape) > 2 else (0, 0, 0)
    return WorldGrid(check_header(image, path), (x, y, z))


def read_labels(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a label map (X, Y, Z), whole numbers (see `whole_numbers`), and its affine (4, 4), voxel → world mm.

    Raises:
        UnreadableCase: the file cannot be read.
        UnrefinableCase: it holds no 3D map of whole numbers, or has no usable affine.
    """
    image = open_volume(path)
    affine = check_header(image, path)
    log_disagreement(image, path)
    return labels_of(image, path), affine


def labels_of(image: nib.Nifti1Image, path: str | Path) -> np.ndarray:
    """Return the label map (X, Y, Z) of an opened file, in C order, see `whole_numbers`; `path` is for messages.

    Raises:
        UnreadableCase: the data are truncated or corrupt.
        UnrefinableCase: there are others than whole numbers of at most 32 bits.
    """
    slope, _ = scaling(image)
    return in_c_order(whole_numbers(read_values(image, path), path, slope).reshape(image.shape[:3]))


def scaling(image: nib.Nifti1Image) -> tuple[float, float]:
    """Return slope and intercept by which a header scales stored whole numbers, (1, 0) where it does not."""
    if image.get_data_dtype().kind not in "iu":
        return 1.0, 0.0
    return float(getattr(image.dataobj, "slope", 1.0)), float(getattr(image.dataobj, "inter", 0.0))


def check_header(image: nib.Nifti1Image, path: str | Path, channels: bool = False) -> np.ndarray:
    """Check that a volume is 3D and can be placed in the world (see `nifti_grid`).

    Args:
        image: an opened file.
        path: its path, for messages.
        channels: whether a fourth axis may be longer than one.

    Returns:
        The affine, (4, 4) float64, voxel index → world mm.

    Raises:
        UnrefinableCase: it is not 3D (a last axis of one is accepted), holds no voxel, or its place is none in which a
            patient can lie, see `check_place`.
    """
    if len(image.shape) == 4 and not channels and is_nrrd(path):
        raise UnrefinableCase(
            f"{path} has segments that overlap, in {image.shape[3]} layers: export it from Slicer as a label map, or "
            "each segment alone"
        )
    further = image.shape[4:] if channels else image.shape[3:]
    if len(image.shape) < 3 or any(n != 1 for n in further) or any(n < 1 for n in image.shape):
        raise UnrefinableCase(f"{path} has the shape {image.shape}, not that of one 3D volume: give one volume a file")
    try:
        return check_place(affine_mm(image), image.shape[:3])
    except ValueError as error:
        raise UnrefinableCase(f"{path}: {error}: repair the header (spacing, orientation, units)") from error


def log_disagreement(image: nib.Nifti1Image, path: str | Path) -> None:
    """Log where the forms of an opened file's header disagree."""
    found = disagreement(image)
    if found:
        logger.warning("%s: %s", path, found)


def read_label_map(path: str | Path) -> MetaTensor:
    """Read a label map.

    Returns:
        (1, X, Y, Z) int32 with its affine, on the file's own grid and in its own axis order.

    Raises:
        UnreadableCase: the file cannot be read.
        UnrefinableCase: it holds no 3D map of whole numbers, or has no usable affine.
    """
    labels, affine = read_labels(path)
    return in_world(torch.from_numpy(labels.astype(np.int32, copy=False)[None]), affine, path)


def read_volume(path: str | Path) -> MetaTensor:
    """Read an image (3D → (1, X, Y, Z)) or channels (4D, channels last → (C, X, Y, Z)), float32, with its affine.

    nnU-Net's `.npz` are channels, too (`read_network_output`).

    Raises:
        UnreadableCase: the file cannot be read.
        UnrefinableCase: it has other than 3 or 4 axes, or no usable affine.
    """
    if str(path).lower().endswith(NETWORK_OUTPUT):
        return read_network_output(path)
    image = open_volume(path)
    affine = check_header(image, path, channels=True)
    log_disagreement(image, path)
    values = np.asarray(read_values(image, path), dtype=np.float32)
    values = np.moveaxis(values.reshape(*values.shape[:3], -1), -1, 0)
    return in_world(torch.from_numpy(np.ascontiguousarray(values)), affine, path)


def read_network_output(path: str | Path) -> MetaTensor:
    """Read the probabilities that nnU-Net writes with --save_probabilities: (C, X, Y, Z) float32.

    The array's axes are (C, Z, Y, X). It lies on the grid of the label map beside it, such as `<case>.nii.gz`.

    Raises:
        UnreadableCase: the file, or the label map, cannot be read.
        UnrefinableCase: there is no such array, or it does not fit the label map.
    """
    path = Path(path)
    beside = next((f for f in (path.with_suffix(s) for s in VOLUMES) if f.is_file()), None)
    if beside is None:
        raise UnrefinableCase(f"{path} has no {path.stem}.nii.gz beside it, which says where it lies: put it there")
    label_map = open_volume(beside)
    affine = check_header(label_map, beside)
    try:
        with np.load(path) as arrays:
            found = [name for name in ("probabilities", "softmax") if name in arrays.files]
            values = arrays[found[0]] if found else np.zeros(0)
    except (*READ_ERRORS, BadZipFile, TypeError) as error:
        raise UnreadableCase(f"{path} cannot be read as .npz ({_line(error)}): copy or make it again") from error
    if values.ndim != 4 or values.shape[:0:-1] != label_map.shape[:3]:
        raise UnrefinableCase(
            f"{path} holds {found[0] if found else 'no probabilities'} of the shape {values.shape}, which is not "
            f"(C, Z, Y, X) of {beside.name}, {label_map.shape}: write both anew with --save_probabilities"
        )
    values = np.ascontiguousarray(values.transpose(0, 3, 2, 1), np.float32)
    return in_world(torch.from_numpy(values), affine, path)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class ReadVolumed(MapTransform):
    """Read images and probabilities: path → (C, X, Y, Z) float32 MetaTensor (see `read_volume`)."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = read_volume(d[key])
        return d


ReadVolumeD = ReadVolumeDict = ReadVolumed
