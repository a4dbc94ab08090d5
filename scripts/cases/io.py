"""Volumes on disk: how they are read and checked, and how results are written.

Masks are read by a reader of our own, because a refined mask must come back with the shape, affine, header codes, data
type and label values it came with. Every file is written under a temporary name and renamed, so that it is there whole
or not at all. What is wrong with a file is said by a `CaseError` whose message names the file and the remedy.
"""

from __future__ import annotations

import gzip
import logging
import math
import shutil
import zlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from ..geometry.affine import check_affine, check_place
from .files import whole_file
from .find import NAMED_AT_MOST, NETWORK_OUTPUT, SUFFIXES, is_nrrd
from .nifti_grid import affine_mm, as_nifti, disagreement, mend_quaternion, open_mended
from .nrrd_file import like, read_nrrd

try:
    from starlette.exceptions import HTTPException as HttpError
except ImportError:
    HttpError = Exception  # type: ignore[assignment, misc]

logger = logging.getLogger(__name__)

MOST_COMPRESSION = 1100  # gzip makes a file at most 1032 times smaller
COUNTED_AT_ONCE = 1 << 20  # voxels, so that what is in work stays in the processor's cache
ROUNDING = 0.01  # how far a stored value may lie from the label that it means
FEW_LABELS = 20  # so many different values need no further look
NOISE_SHARE = 0.5  # of neighbours inside a volume that differ: more is an image, whose neighbours differ by noise
MOST_ROUNDING = 0.25  # the same where a header scales whole numbers: half a step of theirs, but no more than this
READ_ERRORS = (OSError, ValueError, EOFError, MemoryError, OverflowError, zlib.error, ImageFileError, HeaderDataError)


class CaseError(HttpError):
    """The data of a case cannot be used; the message names the file and says the remedy.

    Where Starlette is installed it is one of its HTTP errors, so that a server that runs the bundle (MONAI Label)
    answers a bad request with this message and the code 422 rather than with "Internal Server Error".
    """

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)
        self.status_code, self.detail, self.headers = 422, message, None

    def __str__(self) -> str:
        return self.detail


class UnreadableCase(CaseError):
    """A file cannot be read: the case has no initial mask, and nothing is written."""


class UnrefinableCase(CaseError):
    """The mask can be read but not refined: it is passed through."""


def open_volume(path: str | Path) -> nib.Nifti1Image:
    """Open a NIfTI file: its header only. A NRRD file is read, and comes as a NIfTI image that lies where it does.

    Raises:
        UnreadableCase: the file is not there, is no NIfTI or NRRD file or has a broken header.
    """
    if is_nrrd(path):
        try:
            return as_nifti(*read_nrrd(Path(path)))
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
    if not Path(path).is_file() or not str(path).lower().endswith(SUFFIXES):
        return []
    try:
        found = disagreement(open_volume(path))
    except CaseError:
        return []
    return [f"{path}: {found}"] if found else []


def read_values(image: nib.Nifti1Image, path: str | Path) -> np.ndarray:
    """Read the voxel values of an opened NIfTI file, in the type stored unless the header scales them.

    Raises:
        UnreadableCase: the data are truncated or corrupt.
    """
    stored = image.get_data_dtype().itemsize * math.prod(image.shape)
    if Path(path).is_file() and stored > MOST_COMPRESSION * Path(path).stat().st_size:  # do not allocate it
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
    """Return the label map (X, Y, Z) of an opened file, see `whole_numbers`; `path` is for messages.

    Raises:
        UnreadableCase: the data are truncated or corrupt.
        UnrefinableCase: there are others than whole numbers of at most 32 bits.
    """
    slope, _ = _scaling(image)
    return whole_numbers(read_values(image, path), path, slope).reshape(image.shape[:3])


def _scaling(image: nib.Nifti1Image) -> tuple[float, float]:
    """Return slope and intercept by which a header scales stored whole numbers, (1, 0) where it does not."""
    if image.get_data_dtype().kind not in "iu":
        return 1.0, 0.0
    return float(getattr(image.dataobj, "slope", 1.0)), float(getattr(image.dataobj, "inter", 0.0))


def whole_numbers(values: np.ndarray, path: str | Path, slope: float = 1.0) -> np.ndarray:
    """Return label values in the type stored where that is one of 8 or 16 bits, else as int32.

    A value that is nearly whole is that whole number. Files that were scaled or converted hold such.

    Args:
        values: as read.
        path: of the file, for messages.
        slope: by which the header scales stored whole numbers; values lie within half of it of what was meant.

    Raises:
        UnrefinableCase: there are others than whole numbers of at most 32 bits.
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize < 4:
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise UnrefinableCase(
            f"{path} holds values that are no labels ({values.dtype}, NaN or infinity): export it as a label map"
        )
    with np.errstate(invalid="ignore"):  # of what is too large, which is refused
        labels = (np.rint(values) if values.dtype.kind == "f" else values).astype(np.int32)
    off = 0.0 if np.array_equal(labels, values) else float(np.abs(labels - values).max())
    if off > (ROUNDING if slope == 1 else float(np.clip(abs(slope) / 2, ROUNDING, MOST_ROUNDING))):
        raise UnrefinableCase(f"{path} holds fractions or huge numbers, not labels: threshold probabilities first")
    return labels


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

    The array's axes are (C, Z, Y, X). It lies on the grid of the label map beside it, `<case>.nii.gz`.

    Raises:
        UnreadableCase: the file, or the label map, cannot be read.
        UnrefinableCase: there is no such array, or it does not fit the label map.
    """
    path = Path(path)
    beside = next((f for f in (path.with_suffix(s) for s in SUFFIXES) if f.is_file()), None)
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


def in_world(values: torch.Tensor, affine: np.ndarray, path: str | Path) -> MetaTensor:
    """Return a file's values (C, X, Y, Z) with its affine (4, 4), voxel → world mm, and what MONAI wants to know."""
    meta = {"filename_or_obj": str(path), "space": "RAS", "original_channel_dim": "no_channel"}
    return MetaTensor(values, affine=torch.from_numpy(affine), meta=meta)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def file_of(volume: Any) -> str:
    """Return the file a volume came from, as messages name it."""
    return str(volume.meta.get("filename_or_obj", "the mask")) if isinstance(volume, MetaTensor) else "the mask"


class ReadVolumed(MapTransform):
    """Read images and probabilities: path → (C, X, Y, Z) float32 MetaTensor (see `read_volume`)."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = read_volume(d[key])
        return d


def label_values(label_map: np.ndarray) -> list[int]:
    """Return the values that occur in a label map, sorted."""
    return sorted(label_counts(label_map))


def label_counts(label_map: np.ndarray) -> dict[int, int]:
    """Return value → how many voxels of a label map have it; by counting, piece by piece, where that is possible."""
    flat = label_map.reshape(-1) if label_map.flags.c_contiguous else label_map.ravel(order="K")
    integer = flat.dtype.kind in "iu" and flat.size
    low, high = (int(flat.min()), int(flat.max())) if integer else (0, 0)
    if not integer or high - low > 4096:
        return {int(value): int(count) for value, count in zip(*np.unique(flat, return_counts=True), strict=True)}
    counts = np.zeros(high - low + 1, np.int64)
    for start in range(0, flat.size, COUNTED_AT_ONCE):
        part = flat[start : start + COUNTED_AT_ONCE].astype(np.int64)
        counts += np.bincount(part - low, minlength=len(counts))
    return {int(value) + low: int(counts[value]) for value in np.flatnonzero(counts)}


def looks_like_an_image(values: np.ndarray, different: int) -> bool:
    """Whether whole numbers (X, Y, Z) are an image's rather than labels: most neighbours inside of it differ.

    Args:
        values: (X, Y, Z).
        different: how many different values they are; few are labels, however they lie.
    """
    if different <= FEW_LABELS:
        return False
    for one, other in ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1]), (values[..., 1:], values[..., :-1])):
        inside = (one != 0) & (other != 0)
        if np.count_nonzero(inside & (one != other)) <= NOISE_SHARE * np.count_nonzero(inside):
            return False
    return True


class KeepInitiald(MapTransform):
    """Keep a copy of the label map as `initial`: it is passed through where the steps that follow cannot refine it."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, "initial": data[self.keys[0]].clone()}


class CheckMaskd(MapTransform):
    """Check that the initial mask can be refined.

    Args:
        keys: the key of the label map, (1, X, Y, Z).
        labels: the label values that may occur beside 0.

    Raises:
        UnrefinableCase: the mask is empty, or holds other positive labels.
    """

    def __init__(self, keys: KeysCollection = "pred", labels: Sequence[int] = ()) -> None:
        super().__init__(keys)
        self.labels = [int(v) for v in labels]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data unchanged."""
        d = dict(data)
        mask = d[self.keys[0]]
        found = [v for v in label_values(torch.as_tensor(mask).cpu().numpy()) if v > 0]
        unknown = [v for v in found if v not in self.labels]
        if not found:
            raise UnrefinableCase(
                f"{file_of(mask)}: the mask is empty, there is nothing to refine: check how it was made"
            )
        if self.labels and unknown:
            more = f" and {len(unknown) - NAMED_AT_MOST} more" if len(unknown) > NAMED_AT_MOST else ""
            raise UnrefinableCase(
                f"{file_of(mask)} holds the labels {unknown[:NAMED_AT_MOST]}{more}, but the organ has {self.labels}: "
                "choose the right --organ, say with --source whose labels these are, or relabel the mask"
            )
        return d


KeepInitialD = KeepInitialDict = KeepInitiald
ReadVolumeD = ReadVolumeDict = ReadVolumed
CheckMaskD = CheckMaskDict = CheckMaskd


def copy_volume(source: str | Path, target: str | Path) -> None:
    """Copy a NIfTI file byte for byte, compressing a `.nii` (the target is a `.nii.gz`); a NRRD file is converted."""
    if is_nrrd(source):
        write_nifti(target, open_volume(source))
        return
    with whole_file(target) as temporary:
        if str(source).lower().endswith(".gz"):
            shutil.copyfile(source, temporary)
        else:
            temporary.write_bytes(gzip.compress(Path(source).read_bytes(), mtime=0))


def write_nifti(path: str | Path, image: nib.Nifti1Image) -> None:
    """Write a NIfTI file, whole or not at all; compressed if the name says so."""
    with whole_file(path) as temporary:
        nib.save(image, temporary)


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
) -> None:
    """Write a label map with the header of another file: shape, affine, sform and qform codes, units, extensions.

    In the reference's own data type, voxels that mean what they meant there are stored as they were, bit for bit, even
    where that is not the label itself (0.996, or a whole number that the header scales).

    Args:
        path: where, ending in `.nii.gz`; or in `.nrrd`, with the header of a NRRD file.
        labels: (X, Y, Z) whole numbers.
        reference: NIfTI or NRRD file on the same grid; a last axis of one is kept.
        dtype: data type on disk; None for the reference's, which must hold the values.
        extensions: whether the reference's header extensions are kept, such as a table of its labels' names.
        box: the part of the reference's grid that the labels cover; None for all of it.

    Raises:
        RuntimeError: the labels are on another grid, or do not fit the data type.
    """
    image = open_volume(reference)
    image = image if box is None else _part(image, box)
    if tuple(labels.shape) != image.shape[:3]:
        raise RuntimeError(f"labels of shape {labels.shape} do not fit {reference} of shape {image.shape}")
    slope, inter = (1.0, 0.0) if dtype is not None else _scaling(image)
    if dtype is None and ((slope, inter) != (1.0, 0.0) or image.get_data_dtype().kind == "f"):
        stored = _as_stored(labels, image, reference)
        means = np.rint(stored * slope + inter)
    else:
        means = stored = labels.astype(np.dtype(dtype) if dtype is not None else image.get_data_dtype())
    if not np.array_equal(means, labels):
        raise RuntimeError(f"labels up to {labels.max()} do not fit the data type {stored.dtype} of {path}")
    if is_nrrd(path):
        with whole_file(path) as temporary:
            temporary.write_bytes(like(stored, Path(reference)))
        return
    header = image.header.copy()
    if not extensions:
        header.extensions.clear()
    header.set_data_dtype(stored.dtype)
    if dtype is not None:
        header["cal_min"], header["cal_max"] = 0, 0  # the display range of an image is none of a label map's
    written = type(image)(stored.reshape(image.shape), image.affine, header)
    written.header.set_slope_inter(slope, inter)  # which a new image does not take from its header
    write_nifti(path, written)


def _as_stored(labels: np.ndarray, image: nib.Nifti1Image, path: str | Path) -> np.ndarray:
    """Return label values (X, Y, Z) as an opened file stores them; voxels that have not changed keep what they hold."""
    before, (slope, inter) = labels_of(image, path), _scaling(image)
    unscaled = getattr(image.dataobj, "get_unscaled", None)
    stored = np.array(image.dataobj if unscaled is None else unscaled()).reshape(labels.shape)
    changed = before != labels
    for value in label_values(labels[changed]):
        same = before == value
        stored[changed & (labels == value)] = stored[same][0] if same.any() else np.rint((value - inter) / slope)
    return stored


def label_array(pred: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a label map (X, Y, Z), integer, and its affine (4, 4), float64.

    Args:
        pred: (1, X, Y, Z) or (X, Y, Z): a MetaTensor, or a tensor or array, whose voxels are 1 mm cubes.

    Raises:
        ValueError: it is not of such a shape.
    """
    values = volume_array(pred, "a label map")
    if values.shape[0] != 1:
        raise ValueError(
            f"a label map has one channel, this has {values.shape[0]}: after a network, take the label of the largest "
            "(`AsDiscreted` with `argmax`)"
        )
    values = values[0]
    if values.dtype.kind == "f":
        values = values.round().astype(np.int32)
    return values, affine_of(pred)


def volume_array(volume: Any, what: str) -> np.ndarray:
    """Return the values (C, X, Y, Z) of a tensor or array of that shape, or of one channel's (X, Y, Z).

    Raises:
        ValueError: it is not of such a shape; with `what` it is.
    """
    values = volume if isinstance(volume, np.ndarray) else torch.as_tensor(volume).detach().cpu().numpy()
    if values.ndim not in (3, 4):
        raise ValueError(f"{what} must be (C, X, Y, Z) or (X, Y, Z), not {values.shape}: one volume, without a batch")
    values = np.asarray(values, values.dtype.newbyteorder("="))
    return values[None] if values.ndim == 3 else values


def affine_of(volume: Any) -> np.ndarray:
    """Return the affine (4, 4) of a MetaTensor, the identity for a plain tensor."""
    affine = getattr(volume, "affine", None)
    return np.eye(4) if affine is None else check_affine(torch.as_tensor(affine).cpu().numpy())


def as_labels(mask: Any) -> np.ndarray:
    """Return a label map tensor (1, X, Y, Z) as an integer array (X, Y, Z); negative is what no label of the pack is.

    Raises:
        RuntimeError: it is not of that shape.
    """
    values = torch.as_tensor(mask).detach().cpu().numpy()
    if values.ndim != 4 or values.shape[0] != 1:
        raise RuntimeError(f"a label map must be (1, X, Y, Z), got {values.shape}")
    return values[0] if values.dtype.kind in "iu" else np.rint(values[0]).astype(np.int32)


def known_labels(mask: Any) -> np.ndarray:
    """Return a label map tensor (1, X, Y, Z) as an integer array (X, Y, Z), 0 where no label of the pack is.

    Raises:
        RuntimeError: it is not of that shape.
    """
    return np.maximum(as_labels(mask), 0)
