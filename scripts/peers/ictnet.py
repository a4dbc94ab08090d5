"""ICTNet: a variational auto-encoder re-codes the segmenter's probabilities, so that a mask looks like a mask.

Source: Araújo, Cardoso and Oliveira, A deep learning design for improving topology coherence in blood vessel
segmentation, MICCAI 2019. A segmenter's probability map goes through a variational auto-encoder, whose output is the
result; both are trained end to end on both outputs, and the code's distribution is kept near a normal one:
loss(segmenter) + loss(auto-encoder) + β KL(q(z | map) ‖ N(0, I)).

Deviations: in 3D, on a block that holds the organ, since the auto-encoder needs one size; the segmenter is the organ
pack's U-Net; Dice and cross-entropy on both outputs; β rises over the first half of the training; the code's mean makes
the result. (Not the network of the same name in remote sensing.)
"""

from __future__ import annotations

import torch
from monai.networks.nets import VarAutoEncoder

from .peer import Peer, Task
from .unet import pack_unet

CODE = 128  # numbers
WIDTHS = (16, 32, 64)
BETA = 1e-3  # weight of the KL divergence, a number of the code
WARM_UP = 0.5  # of the training, over which it rises to that


class ICTNet(Peer):
    """See the module."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.segmenter = pack_unet(task)
        self.recoder = VarAutoEncoder(
            3, (task.classes, *task.block), task.classes, CODE, WIDTHS, strides=(2,) * len(WIDTHS), use_sigmoid=False
        )

    def loss(self, images: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        """Cross-entropy and Dice of both outputs, and the KL divergence of the code."""
        logits = self.segmenter(images)
        mean, log_variance = self.recoder.encode_forward(logits.softmax(1))
        code = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        recoded = self.recoder.decode_forward(code, use_sigmoid=False)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).mean()
        weight = BETA * min(1.0, progress / WARM_UP)
        return self.supervised(logits, labels) + self.supervised(recoded, labels) + weight * divergence

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the auto-encoder's output."""
        mean, _ = self.recoder.encode_forward(self.segmenter(images).softmax(1))
        logits: torch.Tensor = self.recoder.decode_forward(mean, use_sigmoid=False)
        return logits
