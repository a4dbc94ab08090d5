"""The refiner of several organ packs: each pack's own refiner takes the steps, and one label map comes of all."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..cases.given import OTHER
from ..organ.pack import Member, OrganPack
from .chain import Refiner
from .draw_mesh import MeshRequest
from .drawing import Drawing
from .inward import names_of, read_inward
from .results import AS_USUAL, Reconstructed, results_of
from .side_check import SidesFound
from .stages import Aligned, Fitted, Image, Refined, Sampled, Unrefined


class JoinedRefiner:
    """Refines label maps of several organ packs: the steps of a `Refiner`, with which it shares their meaning.

    Each pack sees what it would see alone: its own structures, and that the others' voxels are taken. What all would
    change is brought together as within one pack. A pack of whose labels a map has no voxel says nothing of it.

    Args:
        pack: of several, see `several`.
        preset: see `configs/presets.yaml`.
        device: where priors, fields, voxel heads and U-Nets are evaluated.
        seed: of the sampling and of the fit.
        inward_mm, second: see `Refiner`.

    Attributes:
        pack: the same.
        refiners: each pack that has a structure to refine, with its refiner.
        settings: structure name → its settings.

    Raises:
        ValueError, FileNotFoundError: see `Refiner`.
    """

    def __init__(
        self,
        pack: OrganPack,
        preset: str = "default",
        device: str | torch.device = "cpu",
        seed: int = 0,
        inward_mm: object = "",
        second: bool = True,
    ) -> None:
        self.pack = pack
        inward = read_inward(inward_mm, [name for member in pack.members for name in names_of(member.pack)])
        self.refiners = []
        for member in pack.members:
            if member.pack.structures:
                asked = {name: inward[name] for name in names_of(member.pack) if name in inward}
                refiner = Refiner(member.pack, preset, device, seed, inward_mm=asked, second=second)
                self.refiners.append((member, refiner))
        self.settings = {name: own for _, refiner in self.refiners for name, own in refiner.settings.items()}

    def each(self, label_map: np.ndarray) -> Iterator[tuple[Member, Refiner, np.ndarray]]:
        """Yield each pack that a label map (X, Y, Z) has voxels of, with the map as that pack sees it."""
        for member, refiner in self.refiners:
            own = in_own_values(label_map, member)
            if (own > 0).any():
                yield member, refiner, own

    def mend_sides(
        self,
        label_map: np.ndarray,
        affine: np.ndarray,
        fix: bool = False,
        known: Collection[int] | None = None,
        drawn: bool = False,
    ) -> SidesFound:
        """Look whether labels of left and right are exchanged; each pack is judged by itself."""
        found = SidesFound()
        for member, refiner, own in self.each(label_map):
            theirs = None if known is None else {value for value, one in member.labels.items() if one in known}
            found += refiner.mend_sides(own, affine, fix, theirs, drawn).renamed(member.labels)
        return found

    def align(self, label_map: np.ndarray, affine: np.ndarray) -> list[Aligned | Unrefined]:
        """Find each structure's surface and its place in the canonical frame; pack after pack."""
        return [stage for _, refiner, own in self.each(label_map) for stage in refiner.align(own, affine)]

    def sample(
        self,
        aligned: Sequence[Aligned | Unrefined],
        label_map: np.ndarray,
        affine: np.ndarray,
        image: Image | None = None,
        prob: None = None,
        drawn: Drawing | None = None,
        enlarged: bool = False,
    ) -> list[Sampled | Unrefined]:
        """Sample each surface with a trust a point; the image is read by each pack's own voxel head."""
        return [
            stage
            for _, refiner, own in self.each(label_map)
            for stage in refiner.sample(
                [one for one in aligned if one.name in refiner.steps], own, affine, image, None, drawn, enlarged
            )
        ]

    def fit(self, sampled: Sequence[Sampled | Unrefined]) -> list[Fitted | Unrefined]:
        """Fit each structure's prior to its samples."""
        return [
            stage
            for _, refiner in self.refiners
            for stage in refiner.fit([one for one in sampled if one.name in refiner.steps])
        ]

    def reconstruct(
        self,
        fitted: Sequence[Fitted | Unrefined],
        label_map: np.ndarray,
        affine: np.ndarray,
        asked: MeshRequest = AS_USUAL,
    ) -> tuple[np.ndarray, list[Refined | Unrefined]]:
        """Write the fitted shapes into one label map, those of all packs beside each other; see `results_of`."""
        parts = [
            in_common_values(stage, member)
            for member, refiner in self.refiners
            for stage in refiner.reconstruct_each([one for one in fitted if one.name in refiner.steps])
        ]
        return results_of(parts, label_map, affine, asked)


def in_own_values(label_map: np.ndarray, member: Member) -> np.ndarray:
    """Return a label map (X, Y, Z) with a pack's own values, and `OTHER` for the voxels of all others."""
    own = np.zeros_like(label_map, np.min_scalar_type(-max(member.labels) - 1))
    own[label_map != 0] = OTHER
    for value, common in member.labels.items():
        own[label_map == common] = value
    return own


def in_common_values(reconstructed: Reconstructed | Unrefined, member: Member) -> Reconstructed | Unrefined:
    """Return a pack's structure with the labels that it has in the label map of all."""
    stage = reconstructed if isinstance(reconstructed, Unrefined) else reconstructed.fitted
    structure = replace(stage.structure, labels=tuple(member.labels[value] for value in stage.structure.labels))
    if isinstance(reconstructed, Unrefined):
        return replace(reconstructed, structure=structure)
    return replace(reconstructed, fitted=replace(reconstructed.fitted, structure=structure))
