"""The encoder that several networks share: the first half of MONAI's `BasicUNet`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.basic_unet import Down, TwoConv

WIDTHS = (16, 32, 64, 128)  # channels of the levels, the finest first
ACTIVATION = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True})
NORM = ("instance", {"affine": True})  # batches are of one or two


class Encoder(torch.nn.Module):
    """Two convolutions a level, max-pooling between levels: (B, C, X, Y, Z) → one tensor a level, the finest first.

    Args:
        channels: of the input.
        widths: channels of the levels; each halves the grid of the one before.
    """

    def __init__(self, channels: int = 1, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.first = two_convolutions(channels, widths[0])
        self.downs = torch.nn.ModuleList(
            Down(3, before, after, ACTIVATION, NORM, bias=True)
            for before, after in zip(widths, widths[1:], strict=False)
        )

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        levels = [self.first(images)]
        for down in self.downs:
            levels.append(down(levels[-1]))
        return levels


def two_convolutions(channels: int, width: int) -> torch.nn.Module:
    """Return two 3³ convolutions with norm and activation, as in every level."""
    return TwoConv(3, channels, width, ACTIVATION, NORM, bias=True)
