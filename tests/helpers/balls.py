"""Binary masks of balls on grids of several kinds, for tests."""

import numpy as np
import torch
from monai.data import MetaTensor

from tests.helpers.volumes import OBLIQUE

ISOTROPIC, ANISOTROPIC = np.diag([1.0, 1.0, 1.0, 1.0]), np.diag([0.7, 1.0, 2.0, 1.0])
AFFINES = {"isotropic": ISOTROPIC, "anisotropic": ANISOTROPIC, "oblique": OBLIQUE}
FIELD_MM = 52.0  # edge of the images


def ball(radius_mm: float, affine: np.ndarray, shift_mm=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Mask (X, Y, Z) of a ball in world mm, off the image's centre by `shift_mm`."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    shape = np.ceil(FIELD_MM / spacing).astype(int)
    centre = affine[:3, :3] @ ((shape - 1) / 2)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    return np.linalg.norm(index @ affine[:3, :3].T - centre - np.asarray(shift_mm), axis=-1) <= radius_mm


def one_hot(*masks: np.ndarray, affine: np.ndarray | None = None) -> torch.Tensor:
    """One-hot channels (1 + C, X, Y, Z), background first; a MetaTensor where there is an affine."""
    background = ~np.any(masks, axis=0)
    channels = torch.as_tensor(np.stack([background, *masks])).float()
    return channels if affine is None else MetaTensor(channels, affine=torch.as_tensor(affine))


def random_directions(count: int, seed: int) -> np.ndarray:
    """Points (N, 3) spread uniformly over the unit sphere."""
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)
