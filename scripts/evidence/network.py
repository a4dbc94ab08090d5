"""The evidence network: reads image, mask and context together and says how likely each structure is at each voxel.

A prior knows shapes and a network knows pixels; neither alone mends a broken tube. This small 3D U-Net sees, on a grid
of the world's axes, the image (where there is one), the signed distances of the initial mask and of the joint model
fitted to it, and corrects the mask. It only ever proposes: fusion and gate decide what is taken over.
"""

from __future__ import annotations

import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

CLAMP_MM = 20.0
LOGIT_PER_MM = 0.5  # the logit that one millimetre of the mask's signed distance is worth before any correction


class EvidenceNet(nn.Module):
    """Probabilities of an organ pack's structures from image, mask and context.

    Args:
        structures: names of the structures, which order the channels.
        spacing_mm: spacing of the grids it reads.
        features: channels of the five levels and of the output layer of MONAI's BasicUNet.
    """

    def __init__(
        self,
        structures: list[str],
        spacing_mm: float = 3.0,
        features: tuple[int, ...] = (8, 16, 32, 48, 48, 8),
    ) -> None:
        super().__init__()
        self.structures = list(structures)
        self.spacing_mm = float(spacing_mm)
        self.features = tuple(features)
        self.net = BasicUNet(
            spatial_dims=3,
            in_channels=2 + 2 * len(structures),
            out_channels=len(structures),
            features=self.features,
            norm=("batch", {"affine": True}),
            act=("leakyrelu", {"negative_slope": 0.1, "inplace": True}),
            upsample="nontrainable",
        )

    def forward(self, image: Tensor, mask_sdf_mm: Tensor, context_sdf_mm: Tensor) -> Tensor:
        """Return logits (B, S, X, Y, Z).

        Args:
            image: (B, 1, X, Y, Z) intensities in about [0, 1]; NaN where there is no image.
            mask_sdf_mm: (B, S, X, Y, Z) signed distances of the initial mask, mm.
            context_sdf_mm: (B, S, X, Y, Z) signed distances of the joint model's fit, mm.
        """
        seen = image.isfinite()
        distances = torch.cat([mask_sdf_mm, context_sdf_mm], 1).clamp(-CLAMP_MM, CLAMP_MM) / CLAMP_MM
        inputs = torch.cat([torch.where(seen, image, 0.0), seen.to(image), distances], 1)
        return self.net(inputs) - LOGIT_PER_MM * mask_sdf_mm.clamp(-10.0, 10.0)
