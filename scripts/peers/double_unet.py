"""Double-UNet: a second U-Net looks again at the image through the first one's mask.

Source: Jha et al., DoubleU-Net: a deep convolutional neural network for medical image segmentation, CBMS 2020. U-Net 1
(encoder, atrous pyramid, decoder with squeeze-and-excitation) gives mask 1; U-Net 2 sees the image times mask 1, and
its decoder gets the skips of both encoders. Both masks are supervised; mask 2 is the result.

Deviations: in 3D, the first encoder is the first half of MONAI's `BasicUNet` instead of a pretrained VGG-19; instance
norm; dilations 1, 2, 3 and 4 instead of up to 18, which here is more than the pyramid's whole grid; with several
classes the image is multiplied by the probability of any of them. It is scaled to [0, 1] first, so that what is masked
is dark.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import ChannelSELayer, SimpleASPP
from torch.nn import functional

from .encoder import WIDTHS, Encoder, two_convolutions
from .peer import Peer, Task

DILATIONS = (1, 2, 3, 4)


class Decoder(torch.nn.Module):
    """Upsample, concatenate the skips, two convolutions, squeeze and excite; a level at a time."""

    def __init__(self, encoders: int, classes: int) -> None:
        super().__init__()
        pairs = list(zip(WIDTHS[::-1], WIDTHS[-2::-1], strict=False))
        self.levels = torch.nn.ModuleList(
            torch.nn.Sequential(two_convolutions(below + encoders * width, width), ChannelSELayer(3, width, r=4))
            for below, width in pairs
        )
        self.classes = torch.nn.Conv3d(WIDTHS[0], classes, 1)

    def forward(self, lowest: torch.Tensor, *skips: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return logits (B, C, X, Y, Z) from the pyramid's output and each encoder's levels, the finest first."""
        found = lowest
        for level, *same in zip(self.levels, *(own[-2::-1] for own in skips), strict=True):
            up = functional.interpolate(found, size=same[0].shape[2:], mode="trilinear", align_corners=False)
            found = level(torch.cat([up, *same], dim=1))
        logits: torch.Tensor = self.classes(found)
        return logits


class DoubleUNet(Peer):
    """See the module."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.encoders = torch.nn.ModuleList(Encoder() for _ in range(2))
        self.pyramids = torch.nn.ModuleList(
            SimpleASPP(3, WIDTHS[-1], WIDTHS[-1] // 4, dilations=DILATIONS, norm_type="INSTANCE") for _ in range(2)
        )
        self.decoders = torch.nn.ModuleList(Decoder(encoders, task.classes) for encoders in (1, 2))

    def both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of mask 1 and of mask 2, each (B, C, X, Y, Z)."""
        first = self.encoders[0](images)
        one = self.decoders[0](self.pyramids[0](first[-1]), first)
        organ = 1.0 - one.softmax(1)[:, :1]
        second = self.encoders[1](_unit(images) * organ)
        return one, self.decoders[1](self.pyramids[1](second[-1]), first, second)

    def loss(self, images: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        """Cross-entropy and Dice of both masks."""
        one, two = self.both(images)
        return self.supervised(one, labels) + self.supervised(two, labels)

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of mask 2."""
        return self.both(images)[1]


def _unit(images: torch.Tensor) -> torch.Tensor:
    """Bring each image (B, 1, X, Y, Z) to [0, 1]."""
    low, high = (extreme.view(-1, 1, 1, 1, 1) for extreme in torch.aminmax(images.flatten(1), dim=1))
    return (images - low) / (high - low).clamp(min=1e-6)
