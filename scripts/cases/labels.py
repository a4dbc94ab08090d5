"""The values of label maps: which there are, and whether they are labels at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .errors import UnrefinableCase

COUNTED_AT_ONCE = 1 << 20  # voxels, so that what is in work stays in the processor's cache
ROUNDING = 0.01  # how far a stored value may lie from the label that it means
FEW_LABELS = 20  # so many different values need no further look
NOISE_SHARE = 0.5  # of neighbours inside a volume that differ: more is an image, whose neighbours differ by noise
MOST_ROUNDING = 0.25  # the same where a header scales whole numbers: half a step of theirs, but no more than this


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


def narrow(values: np.ndarray, highest: int = 0) -> np.ndarray:
    """Return whole numbers in the smallest of int8, int16 and int32 that holds them, and 0 to `highest`."""
    low, high = (int(values.min()), max(int(values.max()), highest)) if values.size else (0, highest)
    for dtype in (np.int8, np.int16):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype, copy=False)
    return values.astype(np.int32, copy=False)


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
