"""Structures that a mask lacks, drawn from the image by the pack's U-Net, for the refinement to go on with."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..cases.arrays import label_array
from ..cases.given import GIVEN
from ..cases.labels import label_counts, label_values
from ..evidence.head import exactly
from ..geometry.affine import apply_affine, grid_corners, voxel_volume_mm3
from ..geometry.resample import WorldGrid, resample
from ..geometry.surface import crop_box
from ..organ.pack import Structure
from ..prior.volume import UsualVolume
from ..unet.segmenter import Segmenter
from .chain import Refiner
from .placing import LEAST_VOXELS
from .several import JoinedRefiner
from .stages import Image
from .transforms import image_of, like

ADDED, ADDED_SAID = "_added", "_added_said"
LEAST_SHARE = 0.3  # of an organ's usual volume: less is a scrap, or an organ that the image cuts
DRAWN = 0.5  # probability from which on a voxel is drawn
FREE_SHARE = 0.5  # of these voxels: where fewer are of no structure, the mask is wrong there


@dataclass
class Additions:
    """What was added to a label map.

    Attributes:
        label_map: (X, Y, Z) with what was drawn.
        names: of the structures that were drawn.
        said: what a user should know: a text a structure that was drawn, or was not although the image shows it.
    """

    label_map: np.ndarray
    names: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


class AddMissing:
    """Draws the structures of which a label map has hardly a voxel, as the pack's U-Net sees them in the image.

    What the U-Net sees must have at least `LEAST_SHARE` of the organ's usual volume, and a place by PICCT.
    Voxels of the pack's other structures stay theirs, unless these have more than half of what the U-Net sees of the
    missing one: then the mask is wrong there, and all of it is drawn. Voxels of other labels always stay theirs.

    Args:
        refiner: of the organ.
        segmenter: the pack's U-Net.
    """

    def __init__(self, refiner: Refiner, segmenter: Segmenter) -> None:
        self.refiner = refiner
        self.segmenter = segmenter

    def __call__(self, label_map: np.ndarray, affine: np.ndarray, image: Image, known: Collection[int]) -> Additions:
        """Draw.

        Args:
            label_map: (X, Y, Z), the pack's label values, not empty.
            affine: (4, 4) voxel → world mm.
            image: on any grid.
            known: labels that can be written.
        """
        found = Additions(label_map)
        counts = label_counts(label_map)
        lacking = [
            one for one in self.refiner.pack.structures if sum(counts.get(v, 0) for v in one.labels) < LEAST_VOXELS
        ]
        if not lacking:
            return found
        box = crop_box(label_map != 0)
        corners = apply_affine(affine, grid_corners([side.stop - side.start for side in box]) + [s.start for s in box])
        with exactly(self.segmenter.device):
            prob = self.segmenter.read(image.values, image.affine, np.array([corners.min(0), corners.max(0)]))
        if prob is None:
            found.said.append("nothing was added: the image has no contrast, or lies elsewhere than the mask")
            return found
        x, y, z = label_map.shape
        values, own = np.asarray(prob), np.asarray(prob.affine, np.float64)
        channel = {label: k for k, label in enumerate(self.segmenter.pack.labels, 1)}
        for structure in lacking:
            each = [
                resample(values[channel[label]], own, WorldGrid(affine, (x, y, z)), order=1, fill=0.0)
                for label in structure.labels
            ]
            shown = np.sum(each, axis=0) > DRAWN
            if not shown.any():
                continue
            drawn = np.zeros_like(label_map)
            drawn[shown] = np.array(structure.labels, label_map.dtype)[np.argmax([p[shown] for p in each], axis=0)]
            taken = shown & (label_map == 0)
            covered = np.count_nonzero(taken) < FREE_SHARE * np.count_nonzero(shown)
            if covered:
                taken = shown & (label_map >= 0)
            why_not = self._why_not(structure, drawn, affine, known)
            if not why_not and not taken.any():
                why_not = "where the image shows it, the mask has other labels"
            if why_not:
                found.said.append(f"{structure.name}: missing from the mask, and not added: {why_not}")
                continue
            volume_ml = np.count_nonzero(taken) * voxel_volume_mm3(affine) / 1000.0
            said = f"{structure.name}: missing from the mask; drawn from the image ({volume_ml:.3g} ml)"
            found.said.append(said + (", mostly where the mask had other structures" if covered else ""))
            found.names.append(structure.name)
            found.label_map = np.where(taken, drawn, found.label_map)
        return found

    def _why_not(self, structure: Structure, drawn: np.ndarray, affine: np.ndarray, known: Collection[int]) -> str:
        """Return why a structure, all that the U-Net sees of it, is not to be added; "" if it is."""
        if not set(structure.labels) <= set(known):
            return "what the mask came as has no value or file for it"
        usual = UsualVolume.from_card(self.refiner.priors[structure.name].card)
        volume_ml = np.count_nonzero(drawn) * voxel_volume_mm3(affine) / 1000.0
        if usual is not None and volume_ml < LEAST_SHARE * usual.mean_ml:
            return f"the U-Net sees {volume_ml:.2g} ml of it in the image, usual are {usual.mean_ml:.3g}"
        for one in self.refiner.align(drawn, affine):
            if one.structure.labels == structure.labels and one.failure:
                return f"what the U-Net sees in the image: {one.failure}"
        return ""


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
        self.readers: dict[str, AddMissing] = {}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the structures and the texts."""
        result = dict(data)
        image = image_of(result.get(self.image_key)) if self.add else None
        if image is None:
            return result
        for key in self.key_iterator(result):
            label_map, affine = label_array(result[key])
            given = result.get(f"{key}{GIVEN}")
            known = set(self.refiner.pack.labels) if given is None else given.writable_labels
            added, names, said = label_map.copy(), [], []
            for refiner, own, labels in _seen_by_each(self.refiner, label_map):
                reader = self._reader(refiner)
                if reader is not None:
                    found = reader(own, affine, image, {value for value, one in labels.items() if one in known})
                    names += found.names
                    said += found.said
                    for value in label_values(found.label_map[found.label_map != own]):
                        added[(found.label_map == value) & (own != value)] = labels[value]
            if (added != label_map).any():
                result[key] = like(result[key], added, affine)
            result[f"{key}{ADDED}"], result[f"{key}{ADDED_SAID}"] = names, said
        return result

    def _reader(self, refiner: Refiner) -> AddMissing | None:
        """Return who draws what a pack's masks lack; None of one without a U-Net."""
        name = refiner.pack.name
        if name not in self.readers:
            segmenter = refiner.segmenter or Segmenter.of(refiner.pack, self.device)
            if segmenter is None:
                return None
            self.readers[name] = AddMissing(refiner, segmenter)
        return self.readers[name]


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
