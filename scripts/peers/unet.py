"""3D U-Net: the bundle's own, as the organ pack describes it (see `scripts.unet`).

Source: Çiçek et al., 3D U-Net: learning dense volumetric segmentation from sparse annotation, MICCAI 2016. The pack of
the hippocampus names MONAI's `DynUNet`: two convolutions a level, strided ones instead of pooling, concatenated skips.

Deviation of the comparison from `configs/train.yaml`: one class a structure instead of one a label, so that all
networks learn the same; no moving average of the weights and fewer kinds of augmentation, as for all of them.
"""

from __future__ import annotations

import torch

from ..unet.network import NETWORKS
from .peer import Peer, Task


class UNet3D(Peer):
    """See the module."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.network = pack_unet(task)

    def loss(self, images: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        """Cross-entropy and Dice."""
        return self.supervised(self.network(images), labels)

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.network(images)
        return logits


def pack_unet(task: Task) -> torch.nn.Module:
    """Return the organ pack's U-Net with random weights and the task's classes: (B, 1, X, Y, Z) → (B, C, X, Y, Z)."""
    arguments = dict(task.network) | {"out_channels": task.classes}
    return NETWORKS[arguments.pop("name", "UNet")](**arguments)
