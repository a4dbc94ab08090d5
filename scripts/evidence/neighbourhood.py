"""What the voxels around one tell of it: a few convolutions between the voxels that a head judges."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DILATIONS = (1, 2, 4)  # voxels: together they see 7 to each side
KERNEL = 3


class Neighbourhood(nn.Module):
    """Residual blocks of dilated convolutions over the judged voxels; all others count as zero in each of them.

    Args:
        channels: told of each voxel.
        width: of the blocks.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(channels, width)
        self.around = nn.ModuleList(nn.Conv3d(width, width, KERNEL, padding=step, dilation=step) for step in DILATIONS)
        self.mix = nn.ModuleList(nn.Linear(width, width) for _ in DILATIONS)
        self.leave = nn.Linear(width, 1)

    def forward(self, values: Tensor, at: Tensor) -> Tensor:
        """Return what is added to the log odds (N,) of voxels.

        Args:
            values: (N, C) channels, scaled.
            at: (N, 4) int64, volume and voxel in it, both from 0; axes run as those of RAS.
        """
        rows = self.enter(values)
        size = [int(n) for n in at.amax(0) + 1]
        place = tuple(at.T)
        for around, mix in zip(self.around, self.mix, strict=True):
            volume = rows.new_zeros((*size, rows.shape[1]))
            volume[place] = nn.functional.silu(rows)
            found = around(volume.movedim(-1, 1)).movedim(1, -1)[place]
            rows = rows + mix(nn.functional.silu(found))
        return self.leave(nn.functional.silu(rows))[:, 0]


def in_one_volume(at: Tensor) -> Tensor:
    """Return voxels (N, 3) as those of volume 0, (N, 4)."""
    return torch.nn.functional.pad(at.long(), (1, 0))
