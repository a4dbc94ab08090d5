"""Structures that a mask lacks, drawn from the image by the pack's U-Net, for the refinement to go on with."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..cases.arrays import label_array, like
from ..cases.given import GIVEN
from ..cases.labels import label_counts, label_values
from ..evidence.head import exactly
from ..geometry.affine import apply_affine, box_affine, voxel_volume_mm3
from ..geometry.boxed import box_corners
from ..geometry.resample import WorldGrid, resample
from ..geometry.surface import crop_box
from ..organ.pack import OrganPack, Structure
from ..prior.volume import UsualVolume
from ..unet.segmenter import Segmenter
from .chain import Refiner
from .placing import LEAST_VOXELS
from .several import JoinedRefiner
from .stages import Image

ADDED, ADDED_SAID = "_added", "_added_said"
SCRAP_SHARE = 0.1  # of an organ's usual volume: a mask of less lacks it
LEAST_SHARE = 0.3  # of the same: what the U-Net sees less of is a scrap, too, or an organ that the image cuts
LIKELY = 0.5  # probability from which on a voxel is drawn
FREE_SHARE = 0.5  # of these voxels: where fewer are of no structure, the mask is wrong there


CANNOT_DRAW = "{}: no U-Net of several structures can draw what masks lack: leave out add_missing"


def can_draw(pack: OrganPack) -> bool:
    """Return whether a pack has what draws missing structures: a U-Net, and more structures than one."""
    return len(pack.structures) > 1 and Segmenter.of(pack) is not None


@dataclass
class Additions:
    """What was added to a label map.

    Attributes:
        label_map: (X, Y, Z) with what was drawn.
        names: of the structures that were drawn.
        said: what a user should know: a text a structure that was missing, whether it was drawn or why not.
    """

    label_map: np.ndarray
    names: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def refuse(self, name: str, reason: str) -> None:
        """Say why a structure is not added."""
        self.said.append(f"{name}: missing from the mask, and not added: {reason}")


class AddMissing:
    """Draws the structures of which a label map has nothing or a scrap, as the pack's U-Net sees them in the image.

    What is drawn must have at least `LEAST_SHARE` of the organ's usual volume, and a place by PICCT. Voxels of the
    pack's other structures stay theirs, unless these have more than half of what the U-Net sees of the missing one:
    then the mask is wrong there, and all of it is drawn. Voxels of other labels always stay theirs.

    Args:
        refiner: of the organ.
        segmenter: the pack's U-Net.
    """

    def __init__(self, refiner: Refiner, segmenter: Segmenter) -> None:
        self.refiner = refiner
        self.segmenter = segmenter

    def __call__(self, label_map: np.ndarray, affine: np.ndarray, image: Image, writable: Collection[int]) -> Additions:
        """Draw.

        Args:
            label_map: (X, Y, Z), the pack's label values, of a type that holds them all; nothing is drawn where none is
                there.
            affine: (4, 4) voxel → world mm.
            image: on any grid.
            writable: labels that can be written.
        """
        found = Additions(label_map)
        counts, voxel_ml = label_counts(label_map), voxel_volume_mm3(affine) / 1000.0
        lacking = []
        for labels in dict.fromkeys(one.labels for one in self.refiner.pack.structures):
            count, usual = sum(counts.get(value, 0) for value in labels), self._usual(labels)
            if count < LEAST_VOXELS or (usual is not None and count * voxel_ml < SCRAP_SHARE * usual.mean_ml):
                lacking.append(labels)
        for labels in [labels for labels in lacking if not set(labels) <= set(writable)]:
            lacking.remove(labels)
            found.refuse(self._name(labels), "what the mask came as has no value or file for it")
        if not lacking:
            return found
        own = np.isin(label_map, list(self.refiner.pack.labels))
        if not own.any():
            return found
        seen_mm = apply_affine(affine, box_corners(crop_box(own)))
        try:
            with exactly(self.segmenter.device):
                prob = self.segmenter.read(image.values, image.affine, np.array([seen_mm.min(0), seen_mm.max(0)]))
        except (ValueError, RuntimeError) as error:
            found.said.append(f"{self.refiner.pack.name}: nothing was added, since the image cannot be read: {error}")
            return found
        if prob is None:
            found.said.append(
                f"{self.refiner.pack.name}: nothing was added: the image has no contrast, holds values that are no "
                "numbers, or lies elsewhere than the mask"
            )
            return found
        channel = {label: k for k, label in enumerate(sorted(self.segmenter.pack.labels), 1)}
        values, its_affine = np.asarray(prob), np.asarray(prob.affine, np.float64)
        for labels in lacking:
            drawn = _drawn(values[[channel[label] for label in labels]], its_affine, labels, label_map, affine)
            self._add(found, labels, drawn, label_map, affine)
        return found

    def _add(
        self,
        found: Additions,
        labels: tuple[int, ...],
        drawn: np.ndarray,
        label_map: np.ndarray,
        affine: np.ndarray,
    ) -> None:
        """Add what the U-Net sees of a structure, `drawn` (X, Y, Z), or say why not."""
        shown = drawn > 0
        least = FREE_SHARE * np.count_nonzero(shown)
        taken = shown & ((label_map == 0) | np.isin(label_map, labels))
        covered = np.count_nonzero(taken) < least
        if covered:
            taken = shown & ((label_map == 0) | np.isin(label_map, list(self.refiner.pack.labels)))
        drawn = np.where(taken, drawn, 0)
        volume_ml = np.count_nonzero(taken) * voxel_volume_mm3(affine) / 1000.0
        if not shown.any():
            why_not = "the U-Net does not see it in the image"
        elif np.count_nonzero(taken) < least:
            why_not = "where the image shows it, the mask has labels that are left alone"
        else:
            why_not = self._why_not(labels, drawn, affine, volume_ml)
        if why_not:
            found.refuse(self._name(labels), why_not)
            return
        said = f"{self._name(labels)}: missing from the mask; drawn from the image ({volume_ml:.3g} ml)"
        found.said.append(said + (", mostly where the mask had other structures" if covered else ""))
        found.names += [one.name for one in self._of(labels)]
        found.label_map = np.where(taken, drawn, found.label_map)

    def _why_not(self, labels: tuple[int, ...], drawn: np.ndarray, affine: np.ndarray, volume_ml: float) -> str:
        """Return why a structure is not to be added as it is drawn; "" if it is."""
        usual = self._usual(labels)
        if usual is not None and volume_ml < LEAST_SHARE * usual.mean_ml:
            return f"the U-Net sees {volume_ml:.2g} ml of it, usual are {usual.mean_ml:.3g}"
        failures = [one.failure for one in self.refiner.align(drawn, affine) if one.structure.labels == labels]
        return f"what the U-Net sees in the image: {failures[0]}" if all(failures) else ""

    def _of(self, labels: tuple[int, ...]) -> list[Structure]:
        """Return the structure of some labels, or both sides where they share them."""
        return [one for one in self.refiner.pack.structures if one.labels == labels]

    def _usual(self, labels: tuple[int, ...]) -> UsualVolume | None:
        return UsualVolume.from_card(self.refiner.priors[self._of(labels)[0].name].card)

    def _name(self, labels: tuple[int, ...]) -> str:
        return " and ".join(one.name for one in self._of(labels))


def _drawn(
    prob: np.ndarray, its_affine: np.ndarray, labels: Sequence[int], label_map: np.ndarray, affine: np.ndarray
) -> np.ndarray:
    """Return what a U-Net sees of a structure, on the grid of a label map.

    Args:
        prob: (C, X', Y', Z') of its labels.
        its_affine: (4, 4) voxel → world mm of these.
        labels: (C,), the structure's.
        label_map: (X, Y, Z).
        affine: (4, 4) voxel → world mm of it.

    Returns:
        (X, Y, Z) of the same type, a label where the structure is likelier than not, else 0.
    """
    drawn = np.zeros_like(label_map)
    sure = prob.sum(0) > LIKELY
    if not sure.any():
        return drawn
    there = apply_affine(np.linalg.inv(affine) @ its_affine, box_corners(crop_box(sure, 1)))  # no volume of the whole
    first = np.clip(np.floor(there.min(0)).astype(int), 0, label_map.shape)
    last = np.clip(np.ceil(there.max(0)).astype(int) + 1, first, label_map.shape)
    x, y, z = (int(n) for n in last - first)
    if x * y * z == 0:
        return drawn
    grid = WorldGrid(box_affine(affine, first), (x, y, z))
    each = np.stack([resample(one, its_affine, grid, order=1, fill=0.0) for one in prob])
    part = drawn[tuple(slice(low, high) for low, high in zip(first, last, strict=True))]
    part[:] = np.where(each.sum(0) > LIKELY, np.asarray(labels, drawn.dtype)[each.argmax(0)], 0)
    return drawn


class AddMissingd(MapTransform):
    """Adds structures that a label map lacks, where that is asked for; see `AddMissing`.

    Adds `<key>_added`, the names of the structures that were drawn, and `<key>_added_said`, what a user should know: a
    list of texts, empty where nothing is missing. Nothing is done to cases without an image, and nothing is added of a
    pack without a U-Net.

    Args:
        keys: the label map.
        refiner: of the organ.
        image_key: an image on any grid.
        add: whether structures are added.
        device: where the U-Net is evaluated.
        allow_missing_keys: see MapTransform.
    """

    def __init__(
        self,
        keys: KeysCollection,
        refiner: Refiner | JoinedRefiner,
        image_key: str = "image",
        add: bool = False,
        device: str | torch.device = "cpu",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.refiner = refiner
        self.image_key = image_key
        self.add = add
        self.device = device
        self.readers: dict[Path, AddMissing] = {}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the structures and the texts."""
        result = dict(data)
        image = Image.of(result.get(self.image_key)) if self.add else None
        if image is None:
            return result
        for key in self.key_iterator(result):
            label_map, affine = label_array(result[key])
            given = result.get(f"{key}{GIVEN}")
            writable = set(self.refiner.pack.labels) if given is None else given.writable_labels
            added, names, said = label_map.copy(), [], []
            for refiner, own, labels in _seen_by_each(self.refiner, label_map):
                reader = self._reader(refiner)
                if reader is not None:
                    found = reader(own, affine, image, {value for value, one in labels.items() if one in writable})
                    names += found.names
                    said += found.said
                    for value in label_values(found.label_map[found.label_map != own]):
                        added[(found.label_map == value) & (own != value) & (added == label_map)] = labels[value]
            if (added != label_map).any():
                result[key] = like(result[key], added, affine)
            result[f"{key}{ADDED}"], result[f"{key}{ADDED_SAID}"] = names, said
        return result

    def _reader(self, refiner: Refiner) -> AddMissing | None:
        """Return who draws what a pack's masks lack; None of one without a U-Net."""
        folder = refiner.pack.folder
        if folder not in self.readers:
            segmenter = refiner.segmenter or Segmenter.of(refiner.pack, self.device)
            if segmenter is None:
                return None
            self.readers[folder] = AddMissing(refiner, segmenter)
        return self.readers[folder]


def _seen_by_each(
    refiner: Refiner | JoinedRefiner, label_map: np.ndarray
) -> Iterator[tuple[Refiner, np.ndarray, Mapping[int, int]]]:
    """Yield each pack's refiner, the label map as it sees it, and its labels → those of the map."""
    if isinstance(refiner, JoinedRefiner):
        for member, own, theirs in refiner.each(label_map):
            yield own, theirs, member.labels
    else:
        yield refiner, label_map, {label: label for label in refiner.pack.labels}


AddMissingD = AddMissingDict = AddMissingd
