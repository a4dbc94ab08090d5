"""The second reader of an image: the pack's U-Net, which has not made the mask, beside the voxel head.

The voxel head starts from the mask and its fits; the U-Net sees the image alone, so that both err in other places.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Lock

import numpy as np

from ..evidence.head import exactly
from ..evidence.probabilities import Evidence, evidence_from_probabilities
from ..geometry.affine import apply_affine
from ..geometry.boxed import box_corners
from ..geometry.resample import WorldGrid, resample
from ..unet.segmenter import Segmenter
from .stages import Aligned, Fitted, Image, Unrefined

logger = logging.getLogger(__name__)


class SecondReader:
    """Tells what a U-Net says of a case's image; it is asked at most once, and only if somebody wants to know.

    Args:
        segmenter: the U-Net.
        image: on any grid.
        structures: of the case, at least one of them aligned; an image much larger than the U-Net knows is cut to them.
        label_map: (X, Y, Z), in which they are.
        affine: (4, 4) voxel → world mm of it.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        image: Image,
        structures: Sequence[Aligned | Unrefined],
        label_map: np.ndarray,
        affine: np.ndarray,
    ) -> None:
        self.segmenter = segmenter
        self.image = image
        self.masks = [one.mask for one in structures if isinstance(one, Aligned)]
        self.label_map, self.affine = label_map, affine
        self._lock = Lock()
        self._said: list[Evidence | None] = []

    def __call__(self, name: str, grid: WorldGrid) -> np.ndarray | None:
        """Return the probability of a structure on a grid, NaN outside of the image; None of an image without contrast.

        Structures may ask side by side.
        """
        with self._lock:
            if not self._said:
                try:
                    self._said.append(self._read())
                except (ValueError, RuntimeError) as error:
                    logger.warning("the U-Net has no say, since it cannot read the image: %s", error)
                    self._said.append(None)
        return self.known(name, grid)

    def known(self, name: str, grid: WorldGrid) -> np.ndarray | None:
        """Return the same if somebody has asked before, else None."""
        said = self._said[0] if self._said else None
        return None if said is None else resample(said.probability[name], said.affine, grid, order=1, fill=np.nan)

    def _read(self) -> Evidence | None:
        corners = [apply_affine(self.affine, box_corners(mask.box)) for mask in self.masks]
        seen_mm = np.array([np.min(corners, axis=(0, 1)), np.max(corners, axis=(0, 1))])
        with exactly(self.segmenter.device):
            found = self.segmenter.read(self.image.values, self.image.affine, seen_mm)
        if found is None:
            return None
        prob, own = np.asarray(found), np.asarray(found.affine, np.float64)
        x, y, z = prob.shape[1:]
        labels = resample(self.label_map, self.affine, WorldGrid(own, (x, y, z)), order=0)
        return evidence_from_probabilities(prob, labels, own, self.segmenter.pack)


def disputed_words(fitted: Fitted) -> str:
    """Return what a user is told of an image that was not followed; "" of most structures."""
    if fitted.seen is None or fitted.seen.disputed is None:
        return ""
    return (
        f"the image was not followed: its two readers hardly agree (here a Dice of {fitted.seen.disputed:.2f}); is it "
        "of the modality and contrast that the organ pack knows, and of this patient, or does the mask lie elsewhere?"
    )
