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
        agreement: see `Reconstruction`.
    """

    signed_mm: np.ndarray
    source: str = SHAPE
    probability: np.ndarray | None = None
    probability_at: Callable[[np.ndarray], np.ndarray] | None = None
    poor: bool = False
    agreement: float | None = None

    @property
    def by_head(self) -> bool:
        """Whether a voxel head proposes it."""
        return self.source in (IMAGE, MASK)
