"""Implicit U-Net: the decoder of a U-Net as small perceptrons at points, merging the levels coarse to fine.

Source: Marimont and Tarroni, Implicit U-Net for volumetric medical image segmentation, 2022. From the coarsest level
on, h_L = g_L(φL(p)) and h_l = g_l(h_{l+1}, φl(p)), where φl(p) is what level l of the encoder has at the point p,
interpolated; the class is read from h_1.

Deviations: the encoder is the first half of MONAI's `BasicUNet` with instance norm; half of the training points lie
near the surface; masks are made coarse to fine.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .encoder import WIDTHS
from .peer import Task
from .point_peer import PointPeer, perceptron

MERGED = 64  # channels of h


class ImplicitUNet(PointPeer):
    """See the module."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        coarsest_first = WIDTHS[::-1]
        own = [coarsest_first[0], *(width + MERGED for width in coarsest_first[1:])]
        self.merges = torch.nn.ModuleList(perceptron(channels, (MERGED,), MERGED) for channels in own)
        self.classes = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Conv1d(MERGED, task.classes, 1))

    def decode(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits of the levels' features, merged from the coarsest on."""
        merged, *finer = features[::-1]
        merged = self.merges[0](merged)
        for merge, level in zip(self.merges[1:], finer, strict=True):
            merged = merge(torch.cat([torch.relu(merged), level], dim=1))
        logits: torch.Tensor = self.classes(merged)
        return logits
