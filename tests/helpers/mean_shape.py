"""The packaged hippocampus prior's own mean shape, drawn on grids of several kinds and damaged."""

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy.spatial.transform import Rotation

from scripts.geometry.affine import Similarity
from scripts.geometry.resample import WorldGrid
from scripts.organ.pack import OrganPack
from scripts.prior.prior import ShapePrior
from scripts.refine.chain import Refiner
from scripts.refine.transforms import LatentFinetuned, PICCTd, ReconstructShaped, TIMSampled

CENTRE = np.array([27.0, -22.0, -14.0])


KINDS = ("plain", "flipped", "oblique")
APART_MM = 50.0


def chain(preset: str = "default", organ: str | OrganPack = "hippocampus") -> Compose:
    refiner = Refiner(organ, preset)
    steps = (PICCTd, TIMSampled, LatentFinetuned, ReconstructShaped)
    return Compose([step("pred", refiner) for step in steps])


def grid_of(kind: str) -> WorldGrid:
    axes = np.eye(3)
    spacing, shape = np.array([1.0, 1.0, 1.0]), (44, 60, 44)
    if kind == "flipped":
        axes, spacing, shape = np.diag([-1.0, -1.0, 1.0]), np.array([0.9, 0.9, 2.0]), (48, 66, 22)
    elif kind == "oblique":
        axes = Rotation.from_euler("xyz", [12, -8, 15], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag(spacing)
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return WorldGrid(affine, shape)


def mean_shape(kind: str, mirrored: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Label map of the prior's mean shape, anterior half 1 and posterior half 2, and its affine."""
    structure = OrganPack.load("hippocampus").structures[0]
    prior = ShapePrior.load(structure.prior)
    axes = np.diag([-1.0, 1.0, 1.0]) if mirrored else np.eye(3)
    pose = Similarity(1 / prior.scale_mm, axes, -axes @ CENTRE / prior.scale_mm)
    grid = grid_of(kind)
    points = grid.points_world()
    alpha, beta = prior.split_codes(prior.code_mean[None])
    canonical = torch.as_tensor(pose.apply(points.reshape(-1, 3)), dtype=torch.float32)
    sdf = prior.field.sdf(prior.field.weights(beta), alpha, canonical).numpy().reshape(grid.shape)
    inside = (sdf < 0) & (np.linalg.norm(points - CENTRE, axis=-1) < prior.scale_mm)
    return np.where(inside, np.where(points[..., 1] > CENTRE[1], 1, 2), 0).astype(np.uint8), grid.affine


def whole_head(kind: str, cut: bool = True, split: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A hippocampus, and its mirror image `APART_MM` away, cut to a half or not, in two pieces or not.

    Returns:
        Label map, which voxels are the first one's, and affine.
    """
    one, affine = mean_shape(kind)
    other, _ = mean_shape(kind, mirrored=True)
    if cut:
        other = np.where(other == 1, 1, 0).astype(np.uint8)
    if split:
        y_mm = WorldGrid(affine, one.shape).points_world()[..., 1]
        middle = np.median(y_mm[other > 0])
        other[np.abs(y_mm - middle) < 2.0] = 0
    axis = int(np.argmax(np.abs(affine[0, :3])))
    step = int(round(APART_MM / np.linalg.norm(affine[:3, axis]))) * (1 if affine[0, axis] > 0 else -1)
    wide = [(0, 0)] * 3
    wide[axis] = (max(-step, 0), max(step, 0))
    far = [(0, 0)] * 3
    far[axis] = (max(step, 0), max(-step, 0))
    affine = affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [w[0] for w in wide]
    first, second = np.pad(one, wide), np.pad(other, far)
    return np.maximum(first, second), first > 0, affine


def damaged(label_map: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """A ball of 9 mm cut out of the surface, and an island of 3 mm."""
    points = WorldGrid(affine, label_map.shape).points_world()
    inside = points[label_map > 0]
    broken = label_map.copy()
    bite = inside[np.argmax(inside @ [0.2, 0.6, 0.8])] - [0.0, 2.0, 2.0]
    broken[np.linalg.norm(points - bite, axis=-1) < 9.0] = 0
    broken[np.linalg.norm(points - (CENTRE + [-14.0, -14.0, 14.0]), axis=-1) < 3.0] = 1
    return broken


def run(
    label_map: np.ndarray, affine: np.ndarray, preset: str = "default", organ: str | OrganPack = "hippocampus"
) -> dict:
    pred = MetaTensor(torch.from_numpy(label_map[None].copy()), affine=torch.as_tensor(affine))
    return chain(preset, organ)({"pred": pred})


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())
