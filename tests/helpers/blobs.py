"""Images of bright ellipsoids in noise, small enough to learn in seconds."""

import numpy as np
import torch

from scripts.organ.imaging import Augment
from scripts.organ.pack import OrganPack
from scripts.peers.peer import Task

SIZE = 24  # voxels an axis
NETWORK = {
    "name": "DynUNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "filters": [8, 16, 32],
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "norm_name": ["instance", {"affine": True}],
}


def blob_task() -> Task:
    """One class beside the background, in blocks of 24³ voxels of 1 mm."""
    return Task(2, (SIZE, SIZE, SIZE), (1.0, 1.0, 1.0), NETWORK)


def blob_pack() -> OrganPack:
    """The hippocampus pack without augmentation."""
    pack = OrganPack.load("hippocampus")
    return type(pack)(**{**vars(pack), "augment": Augment(rotate_deg=0.0, scale=0.0, translate_mm=2.0)})


def blobs(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Cases with `image` and `label`, (1, 24, 24, 24) each."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"), -1)
    cases = []
    for _ in range(count):
        centre, radii = rng.uniform(10.0, 13.0, 3), rng.uniform(5.0, 8.0, 3)
        mask = (((places - centre) / radii) ** 2).sum(-1) <= 1.0
        image = 2.0 * mask - 0.5 + rng.normal(0.0, 0.5, mask.shape)
        cases.append({"image": torch.as_tensor(image[None]).float(), "label": torch.as_tensor(mask[None]).long()})
    return cases
