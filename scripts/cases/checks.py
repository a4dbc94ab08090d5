"""Transforms that look at a case's initial mask before it is refined."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from .arrays import file_of
from .errors import UnrefinableCase
from .find import NAMED_AT_MOST
from .labels import label_values, looks_like_an_image


class KeepInitiald(MapTransform):
    """Keep a copy of the label map as `initial`: it is passed through where the steps that follow cannot refine it."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, "initial": data[self.keys[0]].clone()}


class CheckMaskd(MapTransform):
    """Check that the initial mask can be refined.

    Args:
        keys: the key of the label map, (1, X, Y, Z).
        labels: the label values that may occur beside 0.

    Raises:
        UnrefinableCase: the mask is empty, or holds other positive labels.
    """

    def __init__(self, keys: KeysCollection = "pred", labels: Sequence[int] = ()) -> None:
        super().__init__(keys)
        self.labels = [int(v) for v in labels]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data unchanged."""
        d = dict(data)
        mask = d[self.keys[0]]
        values = torch.as_tensor(mask).cpu().numpy()
        found = [v for v in label_values(values) if v > 0]
        unknown = [v for v in found if v not in self.labels]
        if not found:
            raise UnrefinableCase(
                f"{file_of(mask)}: the mask is empty, there is nothing to refine: check how it was made"
            )
        if self.labels and unknown and looks_like_an_image(values[0], len(found)):
            raise UnrefinableCase(
                f"{file_of(mask)} looks like an image: it holds {len(found)} values that change from voxel to voxel; "
                "give the folder of the masks"
            )
        if self.labels and unknown:
            more = f" and {len(unknown) - NAMED_AT_MOST} more" if len(unknown) > NAMED_AT_MOST else ""
            raise UnrefinableCase(
                f"{file_of(mask)} holds the labels {unknown[:NAMED_AT_MOST]}{more}, but the organ has {self.labels}: "
                "choose the right --organ, say with --source whose labels these are, or relabel the mask"
            )
        return d


KeepInitialD = KeepInitialDict = KeepInitiald
CheckMaskD = CheckMaskDict = CheckMaskd
