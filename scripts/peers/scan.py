"""SCAN: a segmenter and a critic that learns to tell its masks from true ones.

Source: Dai et al., SCAN: structure correcting adversarial network for organ segmentation, DLMIA 2018. With s(x) the
segmenter's probabilities, y the truth and D the critic, which sees mask and image, the segmenter minimises
J(s(x), y) + λ BCE(D(s(x), x), 1) and the critic BCE(D(y, x), 1) + BCE(D(s(x), x), 0).

Deviations: in 3D; the segmenter is the organ pack's U-Net; both take their steps at once, by the gradients of one sum
in which each sees the other as a constant; λ stands before the critic's part, too, which changes none of its steps,
since Adam scales them, but leaves the segmenter its share of the sum's limited gradient. The truth is smoothed for the
critic, which could otherwise tell it by its zeros and ones alone. The adversarial part begins once the segmenter has
learned for a while. The critic sees the whole block.
"""

from __future__ import annotations

import torch
from monai.networks import one_hot
from monai.networks.nets import Regressor
from torch.func import functional_call
from torch.nn import functional

from .peer import Peer, Task
from .unet import pack_unet

WEIGHT = 0.01  # λ of the source
ALONE = 0.3  # share of the training before the critic comes in
WIDTHS = (16, 32, 64, 64)


class SCAN(Peer):
    """See the module."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.segmenter = pack_unet(task)
        seen = (task.classes + 1, *task.block)
        self.critic = Regressor(seen, (1,), WIDTHS, strides=(2,) * len(WIDTHS), num_res_units=0)

    def loss(self, images: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        """Cross-entropy and Dice; then also what the segmenter must, and what the critic can learn from the other."""
        logits = self.segmenter(images)
        supervised = self.supervised(logits, labels)
        if progress < ALONE:
            return supervised
        made, true = logits.softmax(1), smoothed(one_hot(labels, self.task.classes))
        as_it_is = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        taken = functional_call(self.critic, as_it_is, (torch.cat([made, images], dim=1),))
        of_true, of_made = (self.critic(torch.cat([mask, images], dim=1)) for mask in (true, made.detach()))
        return supervised + WEIGHT * (_called(taken, 1.0) + _called(of_true, 1.0) + _called(of_made, 0.0))

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the segmenter."""
        logits: torch.Tensor = self.segmenter(images)
        return logits


def smoothed(masks: torch.Tensor) -> torch.Tensor:
    """Return one-hot masks (B, C, X, Y, Z) with soft borders and no exact 0 or 1, as a network's are."""
    soft = functional.avg_pool3d(masks, 3, stride=1, padding=1, count_include_pad=False)
    return 0.98 * soft + 0.02 / masks.shape[1]


def _called(logits: torch.Tensor, true: float) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, true))
