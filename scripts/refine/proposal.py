"""What a structure's mask is to become, before the gate judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .reconstruction import IMAGE, MASK, SHAPE


@dataclass(frozen=True)
class Proposal:
    """What a mask is to become, before the gate.

    Attributes:
        signed_mm: (x, y, z) float32, negative inside.
        source: see `Reconstruction.evidence`.
        probability: (x, y, z) of what proposes it or made the mask, NaN where it says nothing; None without.
        probability_at: the same at world points (N, 3).
        poor: whether a voxel head takes the mask for poor, see `odds.proposed`.
        second: see `Reconstruction`.
    """

    signed_mm: np.ndarray
    source: str = SHAPE
    probability: np.ndarray | None = None
    probability_at: Callable[[np.ndarray], np.ndarray] | None = None
    poor: bool = False
    second: float | None = None

    @property
    def disputed(self) -> str:
        """What a user is told of an image that was not followed; "" of most."""
        if self.second is None or self.by_head:
            return ""
        return (
            f"the image was not followed: voxel head and U-Net hardly agree on it (Dice {self.second:.2f}); is it of "
            "the modality and contrast that the organ pack knows, and does it belong to the mask?"
        )

    @property
    def by_head(self) -> bool:
        """Whether a voxel head proposes it."""
        return self.source in (IMAGE, MASK)
