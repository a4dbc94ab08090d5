"""IOSNet: all levels' features at a point, one light perceptron.

Source: Khan and Fang, Implicit neural representations for medical imaging segmentation, MICCAI 2022. The class at a
point p is f(φ1(p), ..., φL(p)), where φl(p) is what level l of a convolutional encoder has at p, interpolated.

Deviations: the encoder is the first half of MONAI's `BasicUNet` with instance norm; Dice is added to the cross-entropy,
as for all networks of the comparison; half of the training points lie near the surface; masks are made coarse to fine.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .encoder import WIDTHS
from .peer import Task
from .point_peer import PointPeer, perceptron

HIDDEN = (128, 64)


class IOSNet(PointPeer):
    """See the module."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.perceptron = perceptron(sum(WIDTHS), HIDDEN, task.classes)

    def decode(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits of the levels' features, concatenated."""
        logits: torch.Tensor = self.perceptron(torch.cat(list(features), dim=1))
        return logits
