"""A small organ pack and data set: two nested boxes of brightness 1 and 2 in the dark, labels 1 and 2."""

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import yaml

LABELS = {1: "shell", 2: "core"}
BRIGHTNESS_NET = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}


def brightness_weights(steepness: float = 20.0) -> dict[str, torch.Tensor]:
    """Weights that call voxels below -0.5 background, up to 0.5 label 1, above label 2."""
    weight = torch.tensor([0.0, 1.0, 2.0]).reshape(3, 1, 1, 1, 1)
    return {"weight": steepness * weight, "bias": steepness * torch.tensor([0.0, 0.5, 0.0])}


def write_pack(folder: Path, spacing_mm: float = 1.0, **settings) -> Path:
    """Write a pack with a U-Net of a few thousand weights; its intensity window maps brightness 0, 1, 2 to -1, 0, 1."""
    folder.mkdir(parents=True, exist_ok=True)
    pack = {
        "name": "boxes",
        "labels": LABELS,
        "spacing_mm": [spacing_mm] * 3,
        "intensity": {"kind": "window", "low": 0, "high": 2},
        "structures": [{"name": "boxes", "labels": [1, 2]}],
        "network": {
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 3,
            "channels": [4, 8],
            "strides": [2],
            "norm": "INSTANCE",
        },
        "patch_size": {"train": [16, 16, 16], "infer": [16, 16, 16]},
        "augment": {"flip": True, "rotate_deg": 5, "scale": 0.05, "translate_mm": 1},
        **settings,
    }
    (folder / "organ.yaml").write_text(yaml.safe_dump(pack))
    return folder


def nested_boxes(shape: tuple[int, int, int] = (16, 14, 15)) -> np.ndarray:
    """Return the label map of the two boxes, (X, Y, Z) uint8; off the centre, so that flips show."""
    labels = np.zeros(shape, np.uint8)
    labels[3:12, 2:11, 4:12] = 1
    labels[4:8, 4:9, 6:11] = 2
    return labels


def write_data(folder: Path, count: int, affine: np.ndarray | None = None) -> Path:
    """Write `count` images and labels into `folder`/images and `folder`/labels."""
    affine = np.eye(4) if affine is None else affine
    labels = nested_boxes()
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 0.05, labels.shape)
        for part, values in (("images", (labels + noise).astype(np.float32)), ("labels", labels)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, affine), folder / part / f"box_{number}.nii.gz")
    return folder
