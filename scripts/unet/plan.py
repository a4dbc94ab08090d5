"""A U-Net for an organ pack that describes none: small, planned from the training data, and written into the pack."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml

from ..cases.files import write_text
from ..cases.read import read_array, read_labels
from ..geometry.affine import same_grid, spacing_mm
from ..organ.pack import OrganError, OrganPack
from ..organ.yaml_file import read_yaml
from .images import training_pairs

LOOKED_AT = 20  # cases, spread evenly
STEP = 8  # voxels: the network halves its grid three times
LARGEST_PATCH = 64  # voxels an axis
LARGEST_IMAGE = 192  # voxels along the longest axis, beyond which the network works at a coarser spacing
BELOW_WATER = -200.0  # images that go below are CT in Hounsfield units
WINDOW_PERCENT = (0.5, 99.5)  # of the intensities inside the labels

logger = logging.getLogger(__name__)


def pack_with_unet(organ: str, dataset_dir: str | Path) -> OrganPack:
    """Return an organ's pack; where it describes no U-Net, plan one from the data and write it into its organ.yaml.

    What the pack already says of spacing, intensity or patches stays.

    Args:
        organ: a folder of `models/`, or the path of an organ pack.
        dataset_dir: see `training_pairs`.

    Raises:
        OrganError: there is no such pack, or its labels are not 1 to the number of labels.
        ValueError: the data cannot be used.
        CaseError: a file cannot be read.
    """
    pack = OrganPack.load(organ)
    pairs = [] if pack.network else training_pairs(dataset_dir, pack.split, "train")
    if not pairs:
        return pack
    if sorted(pack.labels) != list(range(1, len(pack.labels) + 1)):
        raise OrganError(
            f"{pack.file}: a U-Net needs the labels 1 to {len(pack.labels)}, not {sorted(pack.labels)}: renumber the "
            "label maps and the pack's labels"
        )
    found = plan(pairs, len(pack.labels) + 1)
    known = read_yaml(pack.file)  # as it is now: another process may have planned meanwhile
    planned = {key: value for key, value in found.items() if key not in known}
    if not planned:
        return OrganPack.load(organ)
    text = pack.file.read_text(encoding="utf-8").rstrip()
    added = yaml.safe_dump(planned, sort_keys=False, default_flow_style=None)
    write_text(pack.file, f"{text}\n# U-Net, planned from {len(pairs)} cases of {Path(dataset_dir).name}\n{added}")
    logger.warning("planned a U-Net from the data and wrote it into %s; edit it there", pack.file)
    return OrganPack.load(organ)


def plan(pairs: Sequence[dict[str, str]], outputs: int) -> dict[str, Any]:
    """Return the sections of an organ.yaml that describe a U-Net for images such as these.

    Args:
        pairs: files of training cases, see `training_pairs`.
        outputs: classes, background included.

    Returns:
        `spacing_mm` (the median, coarser where images are large), `image_mm` (of the largest), `intensity` (a window
        for CT, else by mean and standard deviation), `patch_size` and `network`; patches are as large as the images, up
        to `LARGEST_PATCH`.
    """
    spacings, extents, inside, lowest = [], [], [], []
    for pair in pairs[:: len(pairs) // LOOKED_AT + 1]:
        image, affine = read_array(pair["image"])
        axes = np.argsort(nib.orientations.io_orientation(affine)[:, 0])  # array axes in the order of the world's
        spacings.append(spacing_mm(affine)[axes])
        extents.append(np.array(image.shape[:3])[axes] * spacings[-1])
        labels, its_affine = read_labels(pair["label"])
        own = same_grid(labels.shape, its_affine, image.shape, affine)
        values = image[labels > 0] if own and (labels > 0).any() else image
        inside.append(np.percentile(values, WINDOW_PERCENT))
        lowest.append(float(image.min()))
    spacing, extent_mm = np.median(spacings, axis=0), np.median(extents, axis=0)
    spacing = np.maximum(spacing, spacing * (extent_mm / spacing).max() / LARGEST_IMAGE)
    patch = [int(np.clip(np.ceil(n / STEP) * STEP, 2 * STEP, LARGEST_PATCH)) for n in extent_mm / spacing]
    intensity: dict[str, Any] = {"kind": "zscore"}
    if np.median(lowest) < BELOW_WATER:
        low, high = np.median(inside, axis=0)
        intensity = {"kind": "window", "low": round(float(low)), "high": max(round(float(high)), round(float(low)) + 1)}
    return {
        "spacing_mm": [round(float(mm), 3) for mm in spacing],
        "image_mm": [math.ceil(mm) for mm in np.max(extents, axis=0)],
        "intensity": intensity,
        "patch_size": {"train": patch, "infer": [*patch]},  # the same list twice would be written as a YAML alias
        "network": {
            "name": "DynUNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": outputs,
            "filters": [16, 32, 64, 96],
            "kernel_size": [3, 3, 3, 3],
            "strides": [1, 2, 2, 2],
            "upsample_kernel_size": [2, 2, 2],
            "norm_name": ["instance", {"affine": True}],
        },
    }
