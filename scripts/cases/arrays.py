"""Volumes in memory: MONAI's tensors with their affines, and the arrays that they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from ..geometry.affine import check_affine

BLOCK = 32  # voxels along an axis that are turned at once, so that what is read and written stays in the cache


def in_c_order(values: np.ndarray) -> np.ndarray:
    """Return values (X, Y, Z) in C order, itself where it is: files are in Fortran's, in which much takes longer."""
    if values.flags.c_contiguous:
        return values
    turned = np.empty(values.shape, values.dtype)
    for x in range(0, values.shape[0], BLOCK):
        for z in range(0, values.shape[2], BLOCK):
            turned[x : x + BLOCK, :, z : z + BLOCK] = values[x : x + BLOCK, :, z : z + BLOCK]
    return turned


def in_world(values: torch.Tensor, affine: np.ndarray, path: str | Path) -> MetaTensor:
    """Return a file's values (C, X, Y, Z) with its affine (4, 4), voxel → world mm, and what MONAI wants to know."""
    meta = {"filename_or_obj": str(path), "space": "RAS", "original_channel_dim": "no_channel"}
    return MetaTensor(values, affine=torch.from_numpy(affine), meta=meta)


def file_of(volume: Any) -> str:
    """Return the file a volume came from, as messages name it."""
    return str(volume.meta.get("filename_or_obj", "the mask")) if isinstance(volume, MetaTensor) else "the mask"


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


def like(given: Any, refined: np.ndarray, affine: np.ndarray) -> MetaTensor:
    """Return a label map (X, Y, Z) with shape, data type, device and meta data of the given one."""
    refined = refined.reshape(given.shape)
    if isinstance(given, np.ndarray):
        values = torch.as_tensor(refined.astype(given.dtype.newbyteorder("=")))
    else:
        values = torch.as_tensor(refined).to(given.device).to(given.dtype)
    return MetaTensor(values, meta={**getattr(given, "meta", {}), "affine": torch.as_tensor(affine)})


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

    Where there is nothing negative, it is the tensor's own memory: not to be changed.

    Raises:
        RuntimeError: it is not of that shape.
    """
    values = as_labels(mask)
    return np.maximum(values, 0) if values.size and values.min() < 0 else values
