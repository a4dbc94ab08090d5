"""Points in a block: where they are, what a grid of features says there, and which ones train and make a mask.

Places are in [-1, 1] along the array's axes (x, y, z); -1 and 1 are the outer faces of the first and last voxel, so
that one place is the same in every level of an encoder, whatever the level's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

ALIGN_CORNERS = False  # as the places are defined: the centre of voxel i of n lies at (2 i + 1) / n - 1
CHUNK = 1 << 15  # points at a time
COARSE = 2  # voxels a step of the coarse grid
SPREAD_VOXELS = 2.0  # standard deviation of points from the surface that they train near


def sample_at(grid: torch.Tensor, points: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """Return what a grid (B, C, X, Y, Z) holds at points (B, N, 3): (B, C, N); beyond it its border.

    `grid_sample` wants the last axis first.
    """
    turned = points.flip(-1)[:, :, None, None]
    found = functional.grid_sample(grid, turned, mode=mode, padding_mode="border", align_corners=ALIGN_CORNERS)
    return found[..., 0, 0]


def voxel_centres(shape: Sequence[int], device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the places (X · Y · Z, 3) of a grid's voxel centres, the last axis fastest."""
    axes = [(2.0 * torch.arange(n, device=device) + 1.0) / n - 1.0 for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def at_border(labels: torch.Tensor) -> torch.Tensor:
    """Return where a voxel of a label map (B, 1, X, Y, Z) has a neighbour of another class, bool."""
    values = labels.float()
    largest = functional.max_pool3d(values, 3, stride=1, padding=1)
    smallest = -functional.max_pool3d(-values, 3, stride=1, padding=1)
    return largest != smallest


def training_points(labels: torch.Tensor, count: int) -> torch.Tensor:
    """Draw points (B, count, 3) to train on: half of them anywhere, half near the surface of a class.

    Args:
        labels: (B, 1, X, Y, Z), class numbers.
        count: points of each image.
    """
    size = torch.tensor(labels.shape[2:], device=labels.device)
    drawn = []
    for border in at_border(labels)[:, 0]:
        points = 2.0 * torch.rand(count, 3, device=labels.device) - 1.0
        places = border.nonzero()
        if len(places):
            half = count // 2
            chosen = places[torch.randint(len(places), (half,), device=labels.device)]
            shifts = SPREAD_VOXELS * torch.randn(half, 3, device=labels.device)
            points[:half] = (2.0 * (chosen + shifts) + 1.0) / size - 1.0
        drawn.append(points.clamp(-1.0, 1.0))
    return torch.stack(drawn)


def on_grid(
    scores_at: Callable[[torch.Tensor], torch.Tensor],
    shape: Sequence[int],
    unsure: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
) -> torch.Tensor:
    """Evaluate a function of places on a whole grid, coarse to fine: every voxel only where that matters.

    Args:
        scores_at: places (1, N, 3) → scores (1, C, N).
        shape: X, Y, Z.
        unsure: scores (1, C, X, Y, Z), interpolated from the coarse grid, → where they are not enough (X, Y, Z), bool.
        device: of the places.

    Returns:
        Scores (1, C, X, Y, Z).
    """
    coarse = [-(-n // COARSE) for n in shape]
    scores = _chunked(scores_at, voxel_centres(coarse, device)).reshape(1, -1, *coarse)
    scores = functional.interpolate(scores, size=tuple(shape), mode="trilinear", align_corners=ALIGN_CORNERS)
    chosen = unsure(scores).reshape(-1)
    if chosen.any():
        flat = scores.flatten(2)
        flat[:, :, chosen] = _chunked(scores_at, voxel_centres(shape, device)[chosen])
        scores = flat.reshape(scores.shape)
    return scores


def _chunked(scores_at: Callable[[torch.Tensor], torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    return torch.cat([scores_at(part[None]) for part in points.split(CHUNK)], dim=-1)
