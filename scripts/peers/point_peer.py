"""What the networks share that answer point by point: an encoder, and classes learned and found at points."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from .encoder import WIDTHS, Encoder
from .peer import Peer, Task, widths_of
from .points import at_border, on_grid, sample_at, training_points

POINTS = 4096  # of each image and step


class PointPeer(Peer):
    """A network that gives the classes' logits at any point of a block, from the features that an encoder has there."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.encoder = Encoder(1, WIDTHS)

    @abstractmethod
    def decode(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return logits (B, C, N) from the features (B, W, N) of each level at N points, the finest level first."""

    def loss(self, images: torch.Tensor, labels: torch.Tensor, progress: float) -> torch.Tensor:
        """Cross-entropy and Dice of the classes at sampled points."""
        points = training_points(labels, POINTS)
        levels = self.encoder(images)
        logits = self.decode([sample_at(level, points) for level in levels])
        return self.supervised(logits, sample_at(labels.float(), points, mode="nearest"))

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Logits on the grid, each voxel's own only near the surfaces that the coarse grid shows."""
        scores = []
        for image in images[:, None]:
            levels = self.encoder(image)

            def at(points: torch.Tensor, levels: Sequence[torch.Tensor] = levels) -> torch.Tensor:
                return self.decode([sample_at(level, points) for level in levels])

            scores.append(on_grid(at, image.shape[2:], _near_border, image.device))
        return torch.cat(scores)


def _near_border(scores: torch.Tensor) -> torch.Tensor:
    return at_border(scores.argmax(1, keepdim=True))[0, 0]


def perceptron(channels: int, hidden: Sequence[int], outputs: int) -> torch.nn.Sequential:
    """Return a perceptron over points, (B, channels, N) → (B, outputs, N)."""
    layers: list[torch.nn.Module] = []
    for before, after in widths_of(channels, hidden):
        layers += [torch.nn.Conv1d(before, after, 1), torch.nn.ReLU(inplace=True)]
    return torch.nn.Sequential(*layers, torch.nn.Conv1d(hidden[-1], outputs, 1))
