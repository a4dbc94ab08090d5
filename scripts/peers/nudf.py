"""NUDF: the unsigned distance to the surface at a point, from the features there and around it.

Source: Sørensen et al., NUDF: neural unsigned distance fields for high resolution 3D medical image segmentation, ISBI
2022, on the network of Chibane et al., Implicit functions in feature space for 3D shape reconstruction (IF-Net), 2020.
A perceptron 256-256-256-1 sees the features of all levels at a point and at six points displaced along the axes; the
loss is the mean of |min(u, δ) - min(d, δ)| with the distance d in edges of the block and δ = 0.1.

Deviations: the encoder is the first half of MONAI's `BasicUNet`, and the image is the first of its five levels; one
distance a structure; u is clamped only where d is, since a distance that is far too large would else never be
corrected. An unsigned distance has no inside, so the mask is closed here by a watershed: voxels near the surface go to
that side, the outside or an inside, which they are reached from first. Each window is closed by itself: a part of an
organ that a window cuts can be lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from skimage.segmentation import watershed

from .encoder import WIDTHS, Encoder
from .peer import Peer, Task
from .point_peer import perceptron
from .points import on_grid, sample_at, training_points

CLAMP = 0.1  # δ, edges of the block
DISPLACED = 0.0722  # of the six further points, half edges of the block, as in IF-Net
HIDDEN = (256, 256, 256)
POINTS = 2048  # of each image and step
SHELLS_VOXELS = (0.5, 1.0, 1.5, 2.0)  # thicknesses of what is held for surface at first


class NUDF(Peer):
    """See the module."""

    around: torch.Tensor

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.encoder = Encoder(1, WIDTHS)
        self.edges_mm = np.multiply(task.block, task.spacing_mm)
        steps = torch.cat([torch.zeros(1, 3), torch.eye(3), -torch.eye(3)])
        around = DISPLACED * self.edges_mm.max() / torch.as_tensor(self.edges_mm)
        self.register_buffer("around", (steps * around).float(), persistent=False)
        self.perceptron = perceptron(7 * (1 + sum(WIDTHS)), HIDDEN, task.classes - 1)

    def distances(self, levels: Sequence[torch.Tensor], points: torch.Tensor) -> torch.Tensor:
        """Return the unsigned distances (B, structures, N) at points (B, N, 3), in edges of the block."""
        around = (points[:, :, None] + self.around).flatten(1, 2)
        found = torch.cat([sample_at(level, around) for level in levels], dim=1)
        flat = found.unflatten(2, (points.shape[1], len(self.around))).permute(0, 3, 1, 2).flatten(1, 2)
        distances: torch.Tensor = self.perceptron(flat).abs()
        return distances

    def loss(self, images: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        """L1 of the clamped distances at sampled points, in units of δ."""
        points = training_points(labels, POINTS)
        true = sample_at(self.signed(labels), points).abs()
        found = self.distances([images, *self.encoder(images)], points)
        off = torch.where(true < CLAMP, (found - true).abs(), (CLAMP - found).clamp(min=0.0))
        return off.mean() / CLAMP

    def signed(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the signed distances (B, structures, X, Y, Z) of a label map, in edges of the block; inside positive.

        Half a voxel off a border between voxel centres, where the surface is taken to be.
        """
        maps = labels[:, 0].cpu().numpy()
        found = [
            [signed_distance(one == number, self.task.spacing_mm) for number in range(1, self.task.classes)]
            for one in maps
        ]
        return torch.as_tensor(np.array(found) / self.edges_mm.max()).to(labels.device, torch.float32)

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Signed distances of the closed masks in voxels; 0 for the background."""
        scores = []
        voxel = min(self.task.spacing_mm) / self.edges_mm.max()
        for image in images[:, None]:
            levels = [image, *self.encoder(image)]

            def at(points: torch.Tensor, levels: Sequence[torch.Tensor] = levels) -> torch.Tensor:
                return self.distances(levels, points)

            grid = on_grid(at, image.shape[2:], lambda found: found[0].amin(0) < 6 * voxel, image.device)[0]
            closed = [close((distance / voxel).cpu().numpy()) for distance in grid]
            inside = torch.as_tensor(np.array(closed)).to(grid.device)
            scores.append(torch.cat([torch.zeros_like(grid[:1]), torch.where(inside, grid, -grid) / voxel]))
        return torch.stack(scores)


def signed_distance(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Return the distance in mm of voxel centres (X, Y, Z) to a mask's surface, inside positive; inf of no mask."""
    if not mask.any():
        return np.full(mask.shape, -np.inf)
    half = 0.5 * min(spacing_mm)
    inside, outside = (ndimage.distance_transform_edt(part, sampling=spacing_mm) for part in (mask, ~mask))
    found: np.ndarray = np.where(mask, inside - half, half - outside)
    return found


def close(distance: np.ndarray) -> np.ndarray:
    """Return the mask (X, Y, Z) bool whose surface lies where an unsigned distance in voxels has its valley.

    Where the shell of small distances has a hole, the outside comes in; so several thicknesses of the shell are tried,
    and that with the largest inside is taken.
    """
    masks = [_closed(distance, shell) for shell in SHELLS_VOXELS]
    return max(masks, key=lambda mask: int(mask.sum()))


def _closed(distance: np.ndarray, shell: float) -> np.ndarray:
    padded = np.pad(distance, 1, constant_values=distance.max() + shell + 1.0)
    parts, _ = ndimage.label(padded > shell)
    outside = parts[0, 0, 0]
    found = watershed(-padded, parts)[1:-1, 1:-1, 1:-1]
    mask: np.ndarray = found != outside
    return mask
