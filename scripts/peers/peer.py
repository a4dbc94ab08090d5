"""What every network of the comparison is to the one trainer: a loss, and scores of classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.losses import DiceCELoss
from monai.utils import convert_to_tensor

from ..unet.network import steps_of

STEP = 8  # voxels: an encoder of four levels halves its grid three times


@dataclass(frozen=True)
class Task:
    """What is learned.

    Attributes:
        classes: the background and one a structure, or one a label.
        block: voxels of the block that a network sees at a time, each axis a multiple of `step_of` the network.
        spacing_mm: of its voxels.
        network: the organ pack's own U-Net, as its `organ.yaml` describes it.
    """

    classes: int
    block: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    network: Mapping[str, Any]


class Peer(torch.nn.Module, ABC):
    """A network of the comparison; `loss` trains it, `predict` applies it."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.supervised = DiceCELoss(to_onehot_y=True, softmax=True)  # of logits (B, C, ...) and classes (B, 1, ...)

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None, progress: float = 0.0) -> torch.Tensor:
        """Return `loss` where there are labels, else `predict`: what inferers, and wrappers of modules, call."""
        images = convert_to_tensor(images, track_meta=False)
        if labels is None:
            return self.predict(images)
        return self.loss(images, convert_to_tensor(labels, track_meta=False).long(), progress)

    @abstractmethod
    def loss(self, images: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        """Return the loss of a batch.

        Args:
            images: (B, 1, X, Y, Z), centred on 0.
            labels: (B, 1, X, Y, Z), class numbers.
            progress: share of the training that is done, 0 to 1.
        """

    @abstractmethod
    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Return scores (B, C, X, Y, Z) of the classes, the background first; the largest is the voxel's class."""


def step_of(network: Mapping[str, Any]) -> int:
    """Return what the edges of a block must be multiples of, in voxels: for the peers, and for the pack's own U-Net.

    Args:
        network: the U-Net, as an organ pack describes it.
    """
    return max(STEP, *steps_of(network))


def widths_of(channels: int, widths: Sequence[int]) -> list[tuple[int, int]]:
    """Return (in, out) of consecutive layers that begin with `channels`."""
    return list(zip((channels, *widths), widths, strict=False))
