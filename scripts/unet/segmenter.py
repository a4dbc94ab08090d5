"""The U-Net of a pack, ready for images that are in memory."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from ..geometry.affine import apply_affine, box_affine, grid_corners
from ..organ.pack import OrganPack
from .images import to_network, too_large
from .network import FlipAveragingInferer, build_unet, network_file, steps_of, with_weights

OVERLAP = 0.25  # of windows: as good for a second reader as the half that makes masks, and faster
MARGIN_MM = 5.0  # around what is looked for, at least, in an image that is cut


class Segmenter:
    """Gives the class probabilities of images as an organ's U-Net sees them; it is read when it is first asked.

    Args:
        pack: an organ pack with a U-Net.
        device: where it runs.
    """

    def __init__(self, pack: OrganPack, device: str | torch.device = "cpu") -> None:
        self.folder = pack.folder
        self.device = torch.device(device)
        flips, steps = [0] if pack.augment.flip else [], steps_of(pack.network)
        self.inferer = FlipAveragingInferer(pack.patch_size.infer, flips, OVERLAP, steps=steps)

    @classmethod
    def of(cls, pack: OrganPack, device: str | torch.device = "cpu") -> Segmenter | None:
        """Return that of a pack; None without a trained U-Net."""
        return cls(pack, device) if pack.network and Path(network_file(pack)).is_file() else None

    @cached_property
    def pack(self) -> OrganPack:
        """The pack with all of its structures: of several packs in one run, each may have left some to another."""
        return OrganPack.load(self.folder)

    @cached_property
    def network(self) -> torch.nn.Module:
        """The U-Net.

        Raises:
            OrganError: the pack describes none that can be built, or its weights are another network's.
        """
        with torch.random.fork_rng(devices=[]):  # who comes after draws the same numbers as without it
            return with_weights(build_unet(self.pack), self.pack, self.device)

    @torch.no_grad()
    def __call__(self, image: MetaTensor) -> MetaTensor:
        """Return probabilities (C, X', Y', Z'), background first, in RAS at the network's spacing.

        Args:
            image: (1, X, Y, Z) with its affine; of finite values, not all the same.

        Raises:
            OrganError: see `network`.
        """
        seen = to_network("image", self.pack)({"image": image})["image"]
        logits = self.inferer(seen.as_tensor().unsqueeze(0).to(self.device), self.network)[0]
        return MetaTensor(torch.softmax(logits.cpu().float(), 0), affine=seen.affine)

    def read(self, values: np.ndarray, affine: np.ndarray, seen_mm: np.ndarray) -> MetaTensor | None:
        """Return what it says of an image in memory, see `__call__`, of which it reads what `cut` leaves.

        Args:
            values, affine, seen_mm: see `cut`.

        Returns:
            The probabilities; None of an image without contrast there, or that ends before.
        """
        values, affine = self.cut(values, affine, seen_mm)
        if not values.size or not np.isfinite(values).all() or values.min() == values.max():
            return None
        return self(MetaTensor(torch.from_numpy(values[None].astype(np.float32)), torch.from_numpy(affine)))

    def cut(self, values: np.ndarray, affine: np.ndarray, seen_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cut an image that is much larger than those which the U-Net learned from to about their size.

        Args:
            values: (X, Y, Z).
            affine: (4, 4), voxel → world mm.
            seen_mm: (2, 3) lower and upper corner, world mm, of what is looked for; it stays in the middle.

        Returns:
            The image, or that part of it, and its affine; nothing is left where the two do not meet.
        """
        known_mm = self.pack.image_mm
        if known_mm is None or not too_large(values.shape, affine, known_mm):
            return values, affine
        half_mm = np.maximum(np.divide(known_mm, 2.0), (seen_mm[1] - seen_mm[0]) / 2.0 + MARGIN_MM)
        corners = np.where(grid_corners((2, 2, 2)) > 0, half_mm, -half_mm) + seen_mm.mean(0)
        index = apply_affine(np.linalg.inv(affine), corners)
        first = np.clip(np.floor(index.min(0)), 0, values.shape).astype(int)
        last = np.clip(np.ceil(index.max(0)) + 1, first, values.shape).astype(int)
        box = tuple(slice(low, high) for low, high in zip(first, last, strict=True))
        return values[box], box_affine(affine, first)
